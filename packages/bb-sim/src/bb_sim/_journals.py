"""Which Nodes of a simulation write a journal, and where to."""

from __future__ import annotations

from collections.abc import Callable

from bb_sim._draws import Draws
from bb_sim._population import Population
from bb_sim.errors import BadScenario

__all__ = ["Journal", "Journals"]

#: Is given the name of a peer, such as `client[3]`, and which life of it begins, from 1 on; returns
#: what `install` takes as `journal=`.
Journal = Callable[[str, int], Callable[[bytes], object]]


class Journals:
    """Knows which Nodes write a journal.

    Args:
        make: Makes the journal of a Node.
        peers: Who writes one, such as `server[0],client[0:3]`; the first honest peer of each class
            when empty.
        population: All peers.
        draws: Decide where a share of a class is named.
        attackers: Who writes none: a replay would build honest components.

    Raises:
        UnknownPeers: There are none of that name.
        BadScenario: One of them attacks.
    """

    def __init__(
        self, make: Journal, peers: str, population: Population, draws: Draws,
        attackers: frozenset[int],
    ) -> None:  # fmt: skip
        self._make = make
        self._name = population.name
        if not peers:
            honest = ([n for n in population.members(c) if n not in attackers]
                      for c in population.classes)  # fmt: skip
            self._chosen = frozenset(number for some in honest for number in some[:1])
            return
        self._chosen = frozenset(population.select(peers, draws, "journal_peers"))
        caught = sorted(self._chosen & attackers)
        if caught:
            raise BadScenario(
                f"{population.name(caught[0])} is to write a journal, and attacks",
                expected="honest peers: a replay would build the components of the artifact",
                fix="name others, or leave the attack out",
            )

    def of(self, number: int, life: int) -> Callable[[bytes], object] | None:
        """Return the journal of a Node, if it writes one."""
        return self._make(self._name(number), life) if number in self._chosen else None
