"""Peers that are known before the start. This file learns nothing from the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bb_ir.errors import BytesAndBrainsError
from bb_ir.ids import PeerId
from bb_roles import Context, Environment, PeerSelector

__all__ = ["PeersError", "Static", "StaticConfig"]


class PeersError(BytesAndBrainsError, ValueError):
    """A list of peers, or a cohort of them, cannot be.

    A peer stands in the list twice or is none, or a sample is drawn from no peers. Correct the
    slot's `peers`.
    """


@dataclass(frozen=True)
class StaticConfig:
    """Who the peers are.

    Attributes:
        peers: Their ids, or the texts of their ids (`12D3KooW...`), in the order in which
            `current_view` returns them. A Node that never selects peers leaves it empty.
    """

    peers: tuple[PeerId, ...] = ()

    def __post_init__(self) -> None:
        seen: set[PeerId] = set()
        for place, peer in enumerate(self.peers):
            if not isinstance(peer, PeerId):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise PeersError(
                    f"peers[{place}] is {peer!r}",
                    expected="a PeerId",
                    fix="read a text with PeerId.parse(text)",
                )
            if peer in seen:
                raise PeersError(
                    f"peers[{place}], {peer}, is in the list twice",
                    expected="each peer once",
                    fix="remove one of the two",
                )
            seen.add(peer)


class Static(PeerSelector):
    """Selects among the peers of its configuration; a cohort comes in the configured order."""

    Config = StaticConfig

    def __init__(self, config: StaticConfig, env: Environment) -> None:
        super().__init__(config, env)
        self._peers = config.peers

    def current_view(self, ctx: Context) -> Sequence[PeerId]:
        """Return all configured peers in their order; none when none is configured."""
        return self._peers

    def sample(self, ctx: Context, *, n: int) -> Sequence[PeerId]:
        """Return `n` different peers, each equally likely; all of them when there are fewer.

        Raises:
            PeersError: `n` is less than 1, or no peer is configured.
        """
        if n < 1:
            raise PeersError(
                f"a sample of {n} peers is asked for",
                expected="at least 1",
                fix="give sample(g, n) the size of the cohort",
            )
        if not self._peers:
            raise PeersError(
                f"slot {self.env.slot!r} knows no peers to sample",
                expected="at least one peer",
                fix=f"pass Config({{{self.env.slot!r}: {{'peers': [...]}}}}) to install",
            )
        if n >= len(self._peers):
            return self._peers
        drawn = ctx.rng().choice(len(self._peers), size=n, replace=False, shuffle=False)
        return tuple(self._peers[i] for i in sorted(drawn.tolist()))
