"""Which Nodes of a simulation write a journal, and where to."""

from __future__ import annotations

from collections.abc import Callable

from bb_sim._draws import Draws
from bb_sim._population import Population

__all__ = ["Journal", "Journals"]

#: Is given the name of a peer, such as `client[3]`, and which life of it begins, from 1 on; returns
#: what `install` takes as `journal=`.
Journal = Callable[[str, int], Callable[[bytes], object]]


class Journals:
    """Knows which Nodes write a journal.

    Args:
        make: Makes the journal of a Node.
        peers: Who writes one, such as `server[0],client[0:3]`; the first peer of each class when
            empty.
        population: All peers.
        draws: Decide where a share of a class is named.

    Raises:
        UnknownPeers: There are none of that name.
    """

    def __init__(self, make: Journal, peers: str, population: Population, draws: Draws) -> None:
        self._make = make
        self._name = population.name
        firsts = ",".join(f"{cls}[0]" for cls in population.classes)
        self._chosen = frozenset(population.select(peers or firsts, draws, "journal_peers"))

    def of(self, number: int, life: int) -> Callable[[bytes], object] | None:
        """Return the journal of a Node, if it writes one."""
        return self._make(self._name(number), life) if number in self._chosen else None
