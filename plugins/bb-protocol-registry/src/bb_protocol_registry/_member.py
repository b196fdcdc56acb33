"""The half of the registry that a member needs: its own lease, and whom it learned of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bb_ir.ids import PeerId
from bb_protocol_registry._checks import count, peers
from bb_protocol_registry.errors import InvalidMessage

__all__ = ["RENEWALS", "Member"]

#: Announcements that a lease has time for, so that one or two may be lost.
RENEWALS: Final = 3


class Member:
    """What one member remembers. All instants are the Node's, in nanoseconds.

    Args:
        ttl_ns: The lease that it asks for.
        labels: What it says of itself.
        room: Most members that it learns of.
    """

    def __init__(self, ttl_ns: int, labels: tuple[str, ...], room: int) -> None:
        self.ttl_ns = ttl_ns
        self.labels = labels
        self.room = room
        self.sequence = 0
        self.announced_ns: int | None = None
        self.renew_after_ns = ttl_ns // RENEWALS
        self.version = 0
        self.known: dict[PeerId, None] = {}

    def announce(self, now_ns: int) -> dict[str, Any]:
        """Return the next announcement."""
        self._next_sequence(now_ns)
        self.announced_ns = now_ns
        return {"sequence": self.sequence, "ttl_ns": self.ttl_ns, "labels": list(self.labels)}

    def leave(self, now_ns: int) -> dict[str, Any]:
        """Return the farewell, after which no announcement is due."""
        self._next_sequence(now_ns)
        self.announced_ns = None
        return {"sequence": self.sequence}

    def _next_sequence(self, now_ns: int) -> None:
        # The time, where it can be: a member that lost its state must not fall behind itself.
        self.sequence = max(self.sequence + 1, now_ns)

    def accept(self, lease: Mapping[str, Any]) -> None:
        """Take over a lease; one that answers an earlier announcement is passed over."""
        sequence = count("the lease", lease, "sequence", least=1)
        ttl_ns = count("the lease", lease, "ttl_ns", least=1)
        renew_after_ns = count("the lease", lease, "renew_after_ns", least=1)
        count("the lease", lease, "members", least=0)
        if sequence > self.sequence:
            raise InvalidMessage(
                f"the lease answers announcement {sequence}",
                expected=f"at most {self.sequence}, the last one of this Node",
            )
        if renew_after_ns > ttl_ns:
            raise InvalidMessage(
                f"the lease is to be renewed after {renew_after_ns} ns",
                expected=f"at most {ttl_ns} ns, its length",
            )
        if sequence == self.sequence and self.announced_ns is not None:
            self.renew_after_ns = renew_after_ns

    def due(self, now_ns: int) -> bool:
        """Tell whether to announce now: never done before, or a part of the lease has passed.

        Its time counts from the announcement, which is before the registry began to count.
        """
        if self.announced_ns is None:
            return self.sequence == 0
        return now_ns - self.announced_ns >= self.renew_after_ns

    def learn(self, version: object, complete: object, joined: object, left: object) -> None:
        """Take over a view, or what changed since the last one."""
        number = count("the view", {"version": version}, "version", least=0)
        come, gone = peers("joined", joined), peers("left", left)
        if not isinstance(complete, bool):
            raise InvalidMessage(f"complete is {complete!r}", expected="True or False")
        if not complete and number < self.version:
            return  # a later view was faster
        known = {} if complete else dict(self.known)
        for peer in gone:
            known.pop(peer, None)
        known.update(dict.fromkeys(come))
        if len(known) > self.room:
            raise InvalidMessage(
                f"with the view this Node would know {len(known)} members",
                expected=f"at most {self.room}, its max_members",
                fix="give members the max_members of their registry",
            )
        self.known, self.version = known, number

    def save(self, now_ns: int) -> dict[str, Any]:
        """Return the state as plain data, with durations instead of instants."""
        waited = None if self.announced_ns is None else now_ns - self.announced_ns
        return {
            "sequence": self.sequence,
            "waited_ns": waited,
            "renew_after_ns": self.renew_after_ns,
            "version": self.version,
            "known": [str(peer) for peer in self.known],
        }

    def load(self, data: Mapping[str, Any]) -> None:
        """Take over what `save` returned, as if it were saved at instant 0."""
        waited = data["waited_ns"]
        self.sequence = int(data["sequence"])
        self.announced_ns = None if waited is None else -int(waited)
        self.renew_after_ns = int(data["renew_after_ns"])
        self.version = int(data["version"])
        self.known = {PeerId.parse(text): None for text in data["known"]}

    def shift(self, by_ns: int) -> None:
        """Move all instants."""
        if self.announced_ns is not None:
            self.announced_ns += by_ns
