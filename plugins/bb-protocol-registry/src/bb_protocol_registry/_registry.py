"""The component: both halves of a registry, so that one slot serves members and the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from bb_ir.errors import BytesAndBrainsError
from bb_ir.ids import PeerId
from bb_protocol_registry._checks import labels
from bb_protocol_registry._member import Member
from bb_protocol_registry._ops import OPS
from bb_protocol_registry._table import Table
from bb_protocol_registry.errors import InvalidMessage, InvalidSetting, NoSender, StateMismatch
from bb_roles import Context, Environment, Protocol, State
from bb_roles.limits import Limits, check_limits

__all__ = ["Registry", "RegistryConfig"]

_NS: Final = 10**9
#: Longest lease that may be configured: a hundred years, which an int64 of nanoseconds holds.
#: Leases: from a microsecond to a hundred years.
_SECONDS: Final = Limits(1e-6, 100 * 365.25 * 86_400, unit="s")


@dataclass(frozen=True)
class RegistryConfig:
    """How long leases are, and how many.

    Attributes:
        ttl_s: The lease that a member asks for; it is renewed three times as often.
        labels: What a member says of itself, such as `("gpu",)`: at most 16 texts of up to 64
            characters, by which others can select it.
        min_ttl_s: Shortest lease that the registry grants; who asks for less gets it.
        max_ttl_s: Longest lease that the registry grants; who asks for more gets it.
        max_members: Most members that the registry holds at a time, and of which a member learns.
    """

    ttl_s: Annotated[float, _SECONDS] = 90.0
    labels: tuple[str, ...] = ()
    min_ttl_s: Annotated[float, _SECONDS] = 30.0
    max_ttl_s: Annotated[float, _SECONDS] = 300.0
    max_members: Annotated[int, Limits(1, unit="members")] = 10_000

    def __post_init__(self) -> None:
        check_limits(self, InvalidSetting)
        if self.min_ttl_s > self.max_ttl_s:
            raise InvalidSetting(
                f"min_ttl_s is {self.min_ttl_s!r}",
                expected=f"at most max_ttl_s, {self.max_ttl_s!r}",
            )
        try:
            labels(self.labels)
        except InvalidMessage as error:
            raise InvalidSetting(error.found, expected=error.expected) from None


class Registry(Protocol):
    """Keeps members by lease. It takes the word of the channel for who they are, never theirs."""

    Config = RegistryConfig
    ops = OPS

    def __init__(self, config: RegistryConfig, env: Environment) -> None:
        super().__init__(config, env)
        self._forget()
        self._now_ns = 0
        #: A state was loaded, whose instants count from the next call.
        self._adrift = False

    def _forget(self) -> None:
        config: RegistryConfig = self.config
        self._member = Member(_ns(config.ttl_s), config.labels, config.max_members)
        self._table = Table(_ns(config.min_ttl_s), _ns(config.max_ttl_s), config.max_members)

    # On a member

    def announce(self, ctx: Context) -> Mapping[str, Any]:
        """Return what this Node says of itself, to join or to renew its lease."""
        return self._member.announce(self._time(ctx))

    def accept(self, ctx: Context, lease: Mapping[str, Any]) -> None:
        """Take over the answer to the last announcement; an older one is passed over.

        Raises:
            InvalidMessage: It is no lease, or answers an announcement that was never made.
        """
        self._time(ctx)
        self._member.accept(lease)

    def due(self, ctx: Context) -> bool:
        """Tell whether it is time to announce; never after `leave`."""
        return self._member.due(self._time(ctx))

    def leave(self, ctx: Context) -> Mapping[str, Any]:
        """Return the farewell of this Node."""
        return self._member.leave(self._time(ctx))

    def known(self, ctx: Context) -> int:
        """Return the version of the view that was learned last, 0 without one."""
        self._time(ctx)
        return self._member.version

    def learn(
        self,
        ctx: Context,
        version: int,
        complete: bool,  # noqa: FBT001  # the port of an op
        joined: Sequence[PeerId],
        left: Sequence[PeerId],
    ) -> None:
        """Take over a view, or what changed since the last one.

        Raises:
            InvalidMessage: It is no view, or one of more than `max_members`.
        """
        self._time(ctx)
        self._member.learn(version, complete, joined, left)

    # On the Node that holds the table

    def register(self, ctx: Context, announcement: Mapping[str, Any]) -> Mapping[str, Any]:
        """Take the sender in, or renew its lease; return the lease.

        Raises:
            InvalidMessage: It is no announcement.
            NoSender: No message opened this frame.
            RegistryFull: There are `max_members` others.
            StaleSequence: A later message of the sender is here already.
        """
        return self._table.register(_sender(ctx, "Register"), announcement, self._time(ctx))

    def remove(self, ctx: Context, departure: Mapping[str, Any]) -> None:
        """Take the sender out, if it is there.

        Raises:
            InvalidMessage: It is no departure.
            NoSender: No message opened this frame.
            StaleSequence: A later message of the sender is here already.
        """
        self._table.remove(_sender(ctx, "Remove"), departure, self._time(ctx))

    def view(
        self, ctx: Context, since: int, *, label: str = ""
    ) -> tuple[int, bool, Sequence[PeerId], Sequence[PeerId]]:
        """Return what changed after a version, or all when that is not known any more.

        Who went may have come again: take out who left before taking in who joined.

        Raises:
            InvalidMessage: `since` is no version.
        """
        return self._table.view(since, label, self._time(ctx))

    # On both

    def members(self, ctx: Context, *, label: str = "") -> Sequence[PeerId]:
        """Return the members in the order in which they registered, then those learned of.

        With a label, those who announced it here; a view that was learned tells no labels.
        """
        self._table.expire(self._time(ctx))
        found = dict.fromkeys(self._table.live(label))
        if not label:
            found.update(self._member.known)
        return tuple(found)

    def sample(self, ctx: Context, *, n: int, label: str = "") -> Sequence[PeerId]:
        """Return `n` different members but this Node, each equally likely, in their order.

        All of them when there are fewer; none when there is nobody.

        Args:
            ctx: The call; its random numbers decide.
            n: How many, at least 1.
            label: Only those that announced it here; all when empty.

        Raises:
            InvalidSetting: `n` is less than 1.
        """
        if n < 1:
            raise InvalidSetting(f"a sample of {n} members is asked for", expected="at least 1")
        there = [peer for peer in self.members(ctx, label=label) if peer != ctx.peer]
        if n >= len(there):
            return tuple(there)
        drawn = ctx.rng().choice(len(there), size=n, replace=False, shuffle=False)
        return tuple(there[at] for at in sorted(drawn.tolist()))

    # State

    def save(self) -> State:
        """Return both halves; leases as the time that was left at the last call."""
        member, table = self._member.save(self._now_ns), self._table.save(self._now_ns)
        return State(data={"member": member, "table": table})

    def load(self, state: State) -> None:
        """Take both halves over; what was left of the leases counts from the next call.

        Raises:
            StateMismatch: The state is damaged or of another component.
        """
        old = self._member, self._table
        self._forget()
        try:
            self._member.load(state.data["member"])
            self._table.load(state.data["table"])
        except (BytesAndBrainsError, LookupError, TypeError, ValueError, AttributeError) as error:
            self._member, self._table = old
            raise StateMismatch(
                f"this is no state of a registry: {type(error).__name__}: {error}",
                expected="what save() returned",
            ) from error
        self._now_ns, self._adrift = 0, True

    def _time(self, ctx: Context) -> int:
        """Return the Node's time; the first one after `load` is that of the state."""
        if self._adrift:
            self._adrift = False
            self._member.shift(ctx.now_ns)
            self._table.shift(ctx.now_ns)
        self._now_ns = ctx.now_ns
        return ctx.now_ns


def _ns(seconds: float) -> int:
    return round(seconds * _NS)


def _sender(ctx: Context, op: str) -> PeerId:
    if ctx.sender is None:
        raise NoSender(
            f"{op} ran where no message had arrived",
            expected="the authenticated sender of a message",
            fix="send the announcement to the registry's Node with g.net_out, and register there",
        )
    return ctx.sender
