"""Peers that are known before the start, drawn by weight and spread over groups.

`_keys` explains how a draw is made. This file checks the configuration, and keeps nothing between
calls.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bb_ir.ids import PeerId
from bb_peers_random._keys import exponential_keys, mark_of
from bb_peers_random.errors import CohortError, InvalidSetting
from bb_roles import Context, Environment, PeerSelector

__all__ = ["Random", "RandomConfig"]

#: Weights within these have keys that are finite and distinct.
_LEAST: Final = 1e-9
_MOST: Final = 1e9


@dataclass(frozen=True)
class RandomConfig:
    """Who the peers are, and how likely each is drawn.

    Attributes:
        peers: Their ids, or the texts of their ids (`12D3KooW...`), in the order in which
            `current_view` returns them. A Node that never selects peers leaves it empty.
        weights: A weight from 1e-9 to 1e9 for each peer, in their order; all equal when left out.
            Of those not drawn yet in its group, a peer is the next with a probability in
            proportion to its weight.
        groups: The name of a group for each peer, in their order, such as a region; one group when
            left out. A cohort takes its peers from all groups in turn.
        include_self: Whether a Node that stands in `peers` may select itself.
    """

    peers: tuple[PeerId, ...] = ()
    weights: tuple[float, ...] = ()
    groups: tuple[str, ...] = ()
    include_self: bool = False

    def __post_init__(self) -> None:
        _check_peers(self.peers)
        _check_length("weights", self.weights, len(self.peers))
        _check_length("groups", self.groups, len(self.peers))
        for place, weight in enumerate(self.weights):
            if not _LEAST <= weight <= _MOST:  # NaN is not
                raise InvalidSetting(
                    f"weights[{place}] is {weight!r}",
                    expected=f"a number from {_LEAST:g} to {_MOST:g}",
                    fix="leave a peer out of `peers` that is never to be drawn",
                    where=f"weights[{place}]",
                )


def _check_peers(peers: Sequence[object]) -> None:
    seen: set[PeerId] = set()
    for place, peer in enumerate(peers):
        if not isinstance(peer, PeerId):
            raise InvalidSetting(
                f"peers[{place}] is {peer!r}",
                expected="a PeerId",
                fix="read a text with PeerId.parse(text)",
                where=f"peers[{place}]",
            )
        if peer in seen:
            raise InvalidSetting(
                f"peers[{place}], {peer}, is in the list twice",
                expected="each peer once",
                fix="remove one of the two; give a peer more weight with `weights`",
                where=f"peers[{place}]",
            )
        seen.add(peer)


def _check_length(name: str, values: Collection[object], count: int) -> None:
    if values and len(values) != count:
        raise InvalidSetting(
            f"there are {len(values)} {name} and {count} peers",
            expected=f"as many {name} as peers, in the same order, or none",
            fix=f"give each peer one of the {name}, or leave `{name}` out",
            where=name,
        )


class Random(PeerSelector):
    """Draws peers by weight, spread over groups; a cohort comes in the configured order.

    Each cohort draws one pair of numbers from `ctx.rng()`, and each peer's luck is a function of
    that pair and of its own id. With the same draw, therefore, a cohort is part of every larger
    one, the order of the list does not matter, and a peer that is added to a group (or taken out)
    changes at most one place within it.

    Args:
        config: A `RandomConfig`.
        env: Where it is being built.
    """

    Config = RandomConfig

    def __init__(self, config: RandomConfig, env: Environment) -> None:
        super().__init__(config, env)
        kept = [
            at for at, peer in enumerate(config.peers) if config.include_self or peer != env.peer
        ]
        self._peers = tuple(config.peers[at] for at in kept)
        weights = config.weights or (1.0,) * len(config.peers)
        groups = config.groups or ("",) * len(config.peers)
        names = sorted({groups[at] for at in kept})
        number = {name: at for at, name in enumerate(names)}
        self._marks = np.array([mark_of(peer.raw) for peer in self._peers], np.uint64)
        self._weights = np.array([weights[at] for at in kept], np.float64)
        self._groups = np.array([number[groups[at]] for at in kept], np.int64)
        self._group_marks = np.array([mark_of(name.encode()) for name in names], np.uint64)

    def current_view(self, ctx: Context) -> Sequence[PeerId]:
        """Return all configured peers in their order, this Node only with `include_self`."""
        return self._peers

    def sample(self, ctx: Context, *, n: int) -> Sequence[PeerId]:
        """Return `n` different peers; all of them when there are fewer.

        The groups take turns in an order that is drawn, and each gives the next of its peers, so
        their numbers differ by one at most while no group is exhausted.

        Raises:
            CohortError: `n` is less than 1, or there is no peer to draw.
        """
        if n < 1:
            raise CohortError(
                f"a sample of {n} peers is asked for",
                expected="at least 1",
                fix="give sample(g, n) the size of the cohort",
            )
        if not self._peers:
            raise CohortError(
                f"slot {self.env.slot!r} knows no peers to sample",
                expected="at least one peer that is not this Node, or include_self=True",
                fix=f"pass Config({{{self.env.slot!r}: {{'peers': [...]}}}}) to install",
            )
        if n >= len(self._peers):
            return self._peers
        nonces = ctx.rng().integers(1 << 64, size=2, dtype=np.uint64)
        return tuple(self._peers[at] for at in np.sort(self._order(nonces)[:n]).tolist())

    def _order(self, nonces: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return places in the list in the order in which a cohort takes them."""
        keys = exponential_keys(self._marks, nonces, self._weights)
        # Two equal keys are as good as impossible; then the marks decide, never the list's order.
        by_group = np.lexsort((self._marks, keys, self._groups))
        groups = self._groups[by_group]
        turn = np.arange(len(groups)) - np.searchsorted(groups, groups)
        equal = np.ones(len(self._group_marks))
        luck = exponential_keys(self._group_marks, nonces, equal)[groups]
        order: NDArray[np.int64] = by_group[np.lexsort((groups, luck, turn))]
        return order
