"""The half of the registry that holds the table: who is a member, and until when."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from bb_ir.ids import PeerId
from bb_protocol_registry._checks import count, labels
from bb_protocol_registry._member import RENEWALS
from bb_protocol_registry.errors import RegistryFull, StaleSequence

__all__ = ["Table"]


@dataclass(slots=True)
class _Entry:
    """One peer; one that left is kept until its lease ends, to know what is overtaken."""

    sequence: int
    expires_ns: int
    labels: tuple[str, ...]
    version: int
    left: bool = False


class _Change(NamedTuple):
    """A member that went, or changed its labels."""

    version: int
    peer: PeerId


class Table:
    """Members in the order in which they registered. All instants are the Node's, in nanoseconds.

    Leases that ran out are dropped when somebody asks, those that ended first before the others,
    so that the same questions at the same times get the same answers.

    Args:
        least_ns: Shortest lease that is granted.
        most_ns: Longest lease that is granted.
        room: Most members.
    """

    def __init__(self, least_ns: int, most_ns: int, room: int) -> None:
        self.least_ns = least_ns
        self.most_ns = most_ns
        self.room = room
        self.entries: dict[PeerId, _Entry] = {}
        self.version = 0
        #: What went, the last of it; who asks for what changed before `forgotten` gets it all.
        self.gone: deque[_Change] = deque()
        self.forgotten = 0
        #: No lease ends before this instant.
        self.calm_ns = 0

    # Changes

    def register(
        self, peer: PeerId, announcement: Mapping[str, Any], now_ns: int
    ) -> dict[str, Any]:
        """Take a member in, or renew its lease; return the lease."""
        sequence = count("the announcement", announcement, "sequence", least=1)
        wanted_ns = count("the announcement", announcement, "ttl_ns", least=0)
        told = labels(announcement.get("labels"))
        self.expire(now_ns)
        old = self.entries.get(peer)
        self._check_order(peer, old, sequence)
        granted_ns = min(max(wanted_ns, self.least_ns), self.most_ns)
        expires_ns = now_ns + granted_ns
        if old is None or old.left:
            self.entries.pop(peer, None)
            self._make_room(peer)
            fresh = self._next_version(now_ns)
            self.entries[peer] = _Entry(sequence, expires_ns, told, fresh)
        else:
            if old.labels != told:
                self._note_gone(peer, now_ns)
                old.labels, old.version = told, self._next_version(now_ns)
            old.sequence, old.expires_ns = sequence, expires_ns
        self.calm_ns = min(self.calm_ns, expires_ns)
        return {
            "sequence": sequence,
            "ttl_ns": granted_ns,
            "renew_after_ns": max(1, granted_ns // RENEWALS),
            "members": sum(1 for _ in self.live()),
        }

    def remove(self, peer: PeerId, departure: Mapping[str, Any], now_ns: int) -> None:
        """Take a member out; of one that is not there, nothing is done."""
        sequence = count("the departure", departure, "sequence", least=1)
        self.expire(now_ns)
        old = self.entries.get(peer)
        self._check_order(peer, old, sequence)
        if old is None or old.left:
            return
        old.sequence, old.left = sequence, True
        self._note_gone(peer, now_ns)

    def expire(self, now_ns: int) -> None:
        """Drop the leases that ended, the earliest first."""
        if now_ns < self.calm_ns:
            return
        ended = [(e.expires_ns, p) for p, e in self.entries.items() if e.expires_ns <= now_ns]
        for _, peer in sorted(ended, key=lambda pair: pair[0]):
            if not self.entries.pop(peer).left:
                self._note_gone(peer, now_ns)
        ends = (entry.expires_ns for entry in self.entries.values())
        self.calm_ns = min(ends, default=now_ns + self.least_ns)

    @staticmethod
    def _check_order(peer: PeerId, old: _Entry | None, sequence: int) -> None:
        if old is not None and sequence <= old.sequence:
            raise StaleSequence(
                f"{peer} sent message {sequence}, and message {old.sequence} is here already",
                expected="numbers that grow",
                fix="if the peer lost its state, its lease has to end first; keep its state, or "
                "let its clock go on",
            )

    def _make_room(self, peer: PeerId) -> None:
        """Leave room for one more: one that left may be forgotten, a member never is."""
        if len(self.entries) < self.room:
            return
        left = [(e.expires_ns, p) for p, e in self.entries.items() if e.left]
        if left:
            del self.entries[min(left, key=lambda pair: pair[0])[1]]
            return
        raise RegistryFull(
            f"{peer} asks to join, and there are {self.room} members",
            fix="raise max_members of the registry",
        )

    def _note_gone(self, peer: PeerId, now_ns: int) -> None:
        self.gone.append(_Change(self._next_version(now_ns), peer))
        if len(self.gone) > self.room:
            self.forgotten = self.gone.popleft().version

    def _next_version(self, now_ns: int) -> int:
        # The time, where it can be: a table that lost its state must not count from 1 again.
        self.version = max(self.version + 1, now_ns)
        return self.version

    # Questions

    def live(self, label: str = "") -> Iterator[PeerId]:
        """Yield the members, or those with a label, as of the last `expire`."""
        for peer, entry in self.entries.items():
            if not entry.left and (not label or label in entry.labels):
                yield peer

    def view(self, since: object, label: str, now_ns: int) -> tuple[int, bool, Any, Any]:
        """Return version, whether all of it follows, who came and who went after a version."""
        asked = count("the question", {"since": since}, "since", least=0)
        self.expire(now_ns)
        if not max(1, self.forgotten) <= asked <= self.version:
            return self.version, True, tuple(self.live(label)), ()
        joined = [peer for peer in self.live(label) if self.entries[peer].version > asked]
        left = dict.fromkeys(change.peer for change in self.gone if change.version > asked)
        return self.version, False, tuple(joined), tuple(left)

    # State

    def save(self, now_ns: int) -> dict[str, Any]:
        """Return the state as plain data, with durations instead of instants."""
        return {
            "version": self.version,
            "forgotten": self.forgotten,
            "gone": [[change.version, str(change.peer)] for change in self.gone],
            "entries": [
                {
                    "peer": str(peer),
                    "sequence": entry.sequence,
                    "remaining_ns": entry.expires_ns - now_ns,
                    "labels": list(entry.labels),
                    "version": entry.version,
                    "left": entry.left,
                }
                for peer, entry in self.entries.items()
            ],
        }

    def load(self, data: Mapping[str, Any]) -> None:
        """Take over what `save` returned, as if it were saved at instant 0."""
        entries = {
            PeerId.parse(row["peer"]): _Entry(
                int(row["sequence"]),
                int(row["remaining_ns"]),
                labels(row["labels"]),
                int(row["version"]),
                bool(row["left"]),
            )
            for row in data["entries"]
        }
        gone = deque(_Change(int(version), PeerId.parse(peer)) for version, peer in data["gone"])
        version, forgotten = int(data["version"]), int(data["forgotten"])
        self.entries, self.gone = entries, gone
        self.version, self.forgotten = version, forgotten
        self.calm_ns = min((e.expires_ns for e in entries.values()), default=0)

    def shift(self, by_ns: int) -> None:
        """Move all instants."""
        for entry in self.entries.values():
            entry.expires_ns += by_ns
        self.calm_ns += by_ns
