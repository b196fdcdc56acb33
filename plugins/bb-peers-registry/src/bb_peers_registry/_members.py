"""Peers that announced themselves. This file keeps no list: it asks the registry each time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from bb_ir.errors import BytesAndBrainsError
from bb_ir.ids import PeerId
from bb_roles import Context, Environment, PeerSelector, Protocol

__all__ = ["Members", "MembersConfig", "PeersError"]


class PeersError(BytesAndBrainsError, ValueError):
    """The registry cannot be asked, or a cohort cannot be drawn.

    The slot `registry` holds no registry, or nobody has announced itself yet. Bind one, and let
    members announce themselves in the bootstrap.
    """


@dataclass(frozen=True)
class MembersConfig:
    """Which members are selected.

    Attributes:
        label: Only members that announced this label; all when empty. Labels are known where the
            table is, not where a view of it was learned.
        include_self: Whether a Node that is a member itself may select itself.
    """

    label: str = ""
    include_self: bool = False


class Members(PeerSelector):
    """Selects among members whose leases live; a cohort comes in the order of registration."""

    Config = MembersConfig
    depends: ClassVar[Mapping[str, type]] = {"registry": Protocol}

    def __init__(self, config: MembersConfig, env: Environment) -> None:
        super().__init__(config, env)
        registry: Any = env.dependencies.get("registry")
        if registry is None or "Members" not in registry.ops:
            found = "nothing" if registry is None else f"a {type(registry).__qualname__}"
            raise PeersError(
                f"slot 'registry' holds {found}, which has no op Members",
                expected="a protocol that keeps members",
                fix='bind_protocol("registry", "registry")',
            )
        self._members = getattr(registry, registry.ops["Members"].method)

    def current_view(self, ctx: Context) -> Sequence[PeerId]:
        """Return all members in the order in which they registered."""
        members: Sequence[PeerId] = self._members(ctx, label=self.config.label)
        if self.config.include_self:
            return members
        return tuple(peer for peer in members if peer != ctx.peer)

    def sample(self, ctx: Context, *, n: int) -> Sequence[PeerId]:
        """Return `n` different members, each equally likely; all of them when there are fewer.

        Raises:
            PeersError: `n` is less than 1, or there is no member.
        """
        if n < 1:
            raise PeersError(
                f"a sample of {n} peers is asked for",
                expected="at least 1",
                fix="give sample(g, n) the size of the cohort",
            )
        members = self.current_view(ctx)
        if not members:
            label = f" with label {self.config.label!r}" if self.config.label else ""
            raise PeersError(
                f"slot {self.env.slot!r} knows no member{label} to sample",
                expected="at least one that announced itself and whose lease lives",
                fix="let members announce themselves before, in the bootstrap for one",
            )
        if n >= len(members):
            return members
        drawn = ctx.rng().choice(len(members), size=n, replace=False, shuffle=False)
        return tuple(members[i] for i in sorted(drawn.tolist()))
