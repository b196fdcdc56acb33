"""Commits of a group: all peers that can go over to a version do, and none to half of one.

A coordinator asks the peers of a group to stage a version (`Prepare`); they say when it is there
(`Ready`). When enough of them are ready it decides, writes that down, and tells them (`Commit`);
when too many refuse or the time is over it gives up (`Abort`), and everybody stays where they are.
A commit has an epoch, larger than all before: late and doubled messages do no harm, and what was
decided is told again to everybody who has not said that it is done.

Before a decision nothing is lost by giving up; after it nobody gives up, so this is two-phase
commit, except that a peer which is not ready does not hold the others back. It is *behind*: it
serves the version that it has, says which that is (`Standing`), and needs a plan from there. To go
back a group commits the older version once more, under a new epoch.

No I/O, no clock and no thread: messages and times come in, messages go out. Peers keep their state
in their stores; the coordinator's is a record, to be written before the messages of the same
step are sent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from blake3 import blake3

from bb_ir.plan import Digest, PlanFormatError, digest_text, parse_digest
from bb_plans._messages import (
    Abort,
    Commit,
    Committed,
    Message,
    Phase,
    Prepare,
    Ready,
    Refused,
    Reply,
    Standing,
)
from bb_plans._participant import Participant, VersionStore
from bb_plans.errors import CommitMisuse, RecordDamaged

__all__ = [
    "Abort",
    "Commit",
    "Committed",
    "Coordinator",
    "Message",
    "Participant",
    "Phase",
    "Prepare",
    "Ready",
    "Refused",
    "Reply",
    "Standing",
    "Step",
    "VersionStore",
]


#: Half of the way to the last epoch of a store: nobody who says so takes a group further.
_FAR: Final = 1 << 62


class Step(NamedTuple):
    """What is to be done after something happened.

    Attributes:
        record: The coordinator's record, when it changed. It is to be durable before any message
            of this step is sent; when that fails, none is.
        messages: Names of peers, and what to send them.
    """

    record: bytes | None
    messages: tuple[tuple[str, Message], ...]


class _Open(NamedTuple):
    """The commit that is under way, or was last."""

    epoch: int
    root: Digest
    parent: Digest | None
    deadline_ns: int


class Coordinator:
    """Decides for a group which version it has.

    Args:
        group: Name of the group.
        peers: Names of its peers.
        quorum: How many of them have to be ready; all, when absent.
        within_ns: How long peers may take to become ready, in nanoseconds.
        resend_ns: After which time what nobody answered is told again, in nanoseconds.

    Raises:
        CommitMisuse: The group cannot have that quorum, or a time is not positive.
    """

    def __init__(
        self,
        group: str,
        peers: Iterable[str],
        *,
        quorum: int | None = None,
        within_ns: int,
        resend_ns: int = 1_000_000_000,
    ) -> None:
        self.group = group
        self.peers = tuple(dict.fromkeys(peers))
        self.quorum = len(self.peers) if quorum is None else quorum
        if not 1 <= self.quorum <= len(self.peers):
            raise CommitMisuse(
                f"a quorum of {self.quorum} in a group of {len(self.peers)}",
                expected="from 1 to the number of peers",
                fix="name the peers, and a quorum that they can reach",
            )
        if within_ns <= 0 or resend_ns <= 0:
            raise CommitMisuse(
                f"{min(within_ns, resend_ns)} ns are no time", expected="positive numbers"
            )
        self._within = within_ns
        self._resend = resend_ns
        self._phase = Phase.IDLE
        self._open: _Open | None = None
        self._committed: Commit | None = None
        self._epoch = 0
        self._ready: set[str] = set()
        self._refused: dict[str, str] = {}
        self._standings: dict[str, Standing] = {}
        self._next_ns = 0

    # --- what is known

    @property
    def phase(self) -> Phase:
        """`IDLE`, `PLANNED` while a commit is open, then `COMMITTED` or `ABORTED`."""
        return self._phase

    @property
    def committed(self) -> Commit | None:
        """The version that the group has; `None` before the first decision."""
        return self._committed

    @property
    def ready(self) -> frozenset[str]:
        """Peers that are ready for the commit that is open, or were for the last one."""
        return frozenset(self._ready)

    @property
    def refused(self) -> Mapping[str, str]:
        """Peers that refused the commit that is open, or was last, and why."""
        return MappingProxyType(self._refused)

    @property
    def standings(self) -> Mapping[str, Standing]:
        """Which version every peer said last that it has."""
        return MappingProxyType(self._standings)

    @property
    def behind(self) -> tuple[str, ...]:
        """Peers that have not said that they have the group's version: they may have any other."""
        return tuple(peer for peer in self.peers if not self._current(peer))

    # --- what happens

    def begin(self, root: Digest, now_ns: int) -> Step:
        """Ask all peers to stage a version, under a new epoch.

        Args:
            root: The version: content digest of its manifest.
            now_ns: The time, of any clock that does not go back.

        Raises:
            CommitMisuse: Another commit is open.
            PlanFormatError: `root` is no digest.
        """
        if self._phase is Phase.PLANNED:
            raise CommitMisuse(
                f"epoch {self._epoch} is neither committed nor aborted",
                expected="one commit at a time",
                fix="wait for it, or call abort",
            )
        digest_text(root)
        # Peers that know of a later epoch than this coordinator would refuse its commits.
        told = (min(one.epoch, _FAR) for one in self._standings.values())
        self._epoch = max(self._epoch, *told, 0) + 1
        parent = None if self._committed is None else self._committed.root
        self._open = _Open(self._epoch, root, parent, now_ns + self._within)
        self._ready, self._refused = set(), {}
        self._phase = Phase.PLANNED
        return self._step(now_ns, self._reminders(now_ns))

    def receive(self, reply: Reply, now_ns: int) -> Step:
        """Take a peer's reply in; those of strangers and of other groups change nothing.

        Args:
            reply: What came; late, doubled and reordered ones do no harm.
            now_ns: The time.
        """
        if reply.group != self.group or reply.peer not in self.peers:
            return Step(None, ())
        match reply:
            case Ready():
                return self._take_ready(reply, now_ns)
            case Refused():
                return self._take_refused(reply, now_ns)
            case Committed():
                known = self._standings.get(reply.peer)
                if known is None or known.epoch <= reply.epoch:
                    told = Standing(self.group, reply.peer, reply.epoch, reply.root)
                    self._standings[reply.peer] = told
            case Standing():
                self._standings[reply.peer] = reply
        return Step(None, ())

    def abort(self, reason: str, now_ns: int) -> Step:
        """Give the commit up that is open; nothing happens when none is.

        Args:
            reason: Why, for people.
            now_ns: The time.
        """
        if self._phase is not Phase.PLANNED or self._open is None:
            return Step(None, ())
        self._phase = Phase.ABORTED
        told = Abort(self.group, self._open.epoch, self._open.root, reason)
        return self._step(now_ns, [(peer, told) for peer in self.peers])

    def tick(self, now_ns: int) -> Step:
        """Give up when the time is over; tell again what was not answered.

        To be called now and then, at least as often as messages shall be told again.

        Args:
            now_ns: The time.
        """
        if self._phase is Phase.PLANNED and self._open and now_ns >= self._open.deadline_ns:
            return self.abort("the deadline passed", now_ns)
        if now_ns < self._next_ns:
            return Step(None, ())
        self._next_ns = now_ns + self._resend
        return Step(None, tuple(self._reminders(now_ns)))

    # --- the record

    def record(self) -> bytes:
        """Return all that a restarted coordinator has to know, as JSON with a checksum."""
        told = self._open
        facts: dict[str, Any] = {
            "version": 1,
            "group": self.group,
            "phase": self._phase.value,
            "epoch": self._epoch,
            "open": told and [told.epoch, digest_text(told.root), _text(told.parent)],
            "committed": self._committed
            and [self._committed.epoch, digest_text(self._committed.root)],
        }
        text = json.dumps(facts, separators=(",", ":"), ensure_ascii=True)
        return f"{text}\n{blake3(text.encode()).hexdigest()}\n".encode()

    def restore(self, record: bytes, now_ns: int) -> None:
        """Go on where the coordinator was that wrote a record. The next `tick` tells all peers.

        A commit that was open stays open, and has all of its time again; who was ready says so
        again when asked.

        Args:
            record: The last record that was durable.
            now_ns: The time.

        Raises:
            CommitMisuse: It is of another group.
            RecordDamaged: It is not what was written.
        """
        facts: dict[str, Any] = {}
        try:
            text, check, end = record.decode().split("\n")
            if blake3(text.encode()).hexdigest() == check and not end:
                facts = json.loads(text)
            if facts["version"] != 1:
                raise RecordDamaged("the record is of another version", expected="version 1")
            told: Any = facts["open"]
            opened = None
            if told is not None:
                until = now_ns + self._within
                opened = _Open(told[0], parse_digest(told[1]), _digest(told[2]), until)
            told = facts["committed"]
            decided = None
            if told is not None:
                decided = Commit(self.group, told[0], parse_digest(told[1]))
            phase, epoch, group = Phase(facts["phase"]), int(facts["epoch"]), str(facts["group"])
        except (ValueError, KeyError, TypeError, PlanFormatError) as error:
            raise RecordDamaged(
                "the coordinator's record is not what was written",
                expected="the bytes of Step.record",
                fix="read the whole of the last one that was written",
            ) from error
        if group != self.group:
            raise CommitMisuse(
                f"the record is of group {group!r}",
                expected=f"one of {self.group!r}",
                fix="give each group its own record",
            )
        self._phase, self._open, self._committed, self._epoch = phase, opened, decided, epoch
        self._ready, self._refused, self._standings = set(), {}, {}
        self._next_ns = now_ns

    # --- inside

    def _take_ready(self, reply: Ready, now_ns: int) -> Step:
        decided = self._committed
        if decided is not None and (reply.epoch, reply.root) == (decided.epoch, decided.root):
            return Step(None, ((reply.peer, decided),))  # it is late, and not too late
        if self._open is None or (reply.epoch, reply.root) != (self._open.epoch, self._open.root):
            return Step(None, ())
        if self._phase is not Phase.PLANNED:
            told = Abort(self.group, reply.epoch, reply.root, "it was given up")
            return Step(None, ((reply.peer, told),))
        self._ready.add(reply.peer)
        self._refused.pop(reply.peer, None)
        if len(self._ready) < self.quorum:
            return Step(None, ())
        self._phase = Phase.COMMITTED
        self._committed = Commit(self.group, reply.epoch, reply.root)
        return self._step(now_ns, self._reminders(now_ns))

    def _take_refused(self, reply: Refused, now_ns: int) -> Step:
        told = self._open
        open_ = self._phase is Phase.PLANNED and told is not None
        if not open_ or told is None or (reply.epoch, reply.root) != (told.epoch, told.root):
            return Step(None, ())
        self._refused[reply.peer] = reply.reason
        self._ready.discard(reply.peer)
        if len(self.peers) - len(self._refused) >= self.quorum:
            return Step(None, ())
        return self.abort(f"{reply.peer} refused: {reply.reason}", now_ns)

    def _reminders(self, now_ns: int) -> list[tuple[str, Message]]:
        """Return what peers are to be told that they have not answered."""
        found: list[tuple[str, Message]] = []
        if self._committed is not None:
            found += [(peer, self._committed) for peer in self.behind]
        if self._phase is Phase.PLANNED and self._open is not None:
            one = self._open
            left = one.deadline_ns - now_ns
            asked = Prepare(self.group, one.epoch, one.root, one.parent, left)
            waiting = [peer for peer in self.peers if peer not in {*self._ready, *self._refused}]
            found += [(peer, asked) for peer in waiting]
        return found

    def _current(self, peer: str) -> bool:
        told, decided = self._standings.get(peer), self._committed
        if told is None or decided is None:
            return False
        return (told.epoch, told.root) == (decided.epoch, decided.root)

    def _step(self, now_ns: int, messages: list[tuple[str, Message]]) -> Step:
        self._next_ns = now_ns + self._resend
        return Step(self.record(), tuple(messages))


def _text(digest: Digest | None) -> str | None:
    return None if digest is None else digest_text(digest)


def _digest(text: str | None) -> Digest | None:
    return None if text is None else parse_digest(text)
