"""Envelopes of edges with `retries=`: sent again, under the same id, until the peer says they came.

What ends a retry is an `Ack`, word that the message is refused, an answer, or the end of its
deadline. The receiver acknowledges what it took and, without running anything, what it took
before; a lost acknowledgement so costs one more header. An answer is a message of its own with
retries of its own, so a lost answer is sent again by the one who lost it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from bb_runtime import _health
from bb_runtime._frames import NOTHING, Frame
from bb_runtime._letters import Letter
from bb_runtime._misread import whole

if TYPE_CHECKING:
    from bb_runtime._engine import Engine
    from bb_runtime._peers import Peer

__all__ = ["Retries", "Retry"]


class Retry:
    """One envelope that was sent and not acknowledged.

    Attributes:
        left: How often it may still be sent.
        times: How often it was sent again.
        again_ns: When it is sent again, or given up.
        sent_ns: When it was sent first.
        alarm_ns: When it is looked at again.
    """

    __slots__ = ("again_ns", "alarm_ns", "left", "letter", "record", "sent_ns", "times")

    def __init__(self, record: Peer, letter: Letter, left: int, times: int, sent_ns: int) -> None:
        self.record = record
        self.letter = letter
        self.left = left
        self.times = times
        self.sent_ns = sent_ns
        self.again_ns = self.alarm_ns = -1


class Retries:
    """What one Node sends again."""

    __slots__ = ("_engine", "open")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.open: dict[int, Retry] = {}

    def watch(self, record: Peer, letter: Letter) -> None:
        """Send an envelope again if nothing is heard of it; it was just sent."""
        if not letter.replies:
            letter.frame = None  # nobody waits for it
        retry = Retry(record, letter, letter.edge.retries, 0, self._engine.now_ns)
        self._keep(retry)
        self._wait(retry)

    def _keep(self, retry: Retry) -> None:
        number, record = retry.letter.number, retry.record
        if record.retrying is NOTHING:
            record.retrying = {}
        self.open[number] = record.retrying[number] = retry

    def _wait(self, retry: Retry) -> None:
        engine, letter, record = self._engine, retry.letter, retry.record
        wait = _health.jittered(
            engine,
            f"retry/{record.id}/{letter.number}",
            retry.times,
            record.acks.wait_ns(letter.edge.backoff_ns),
        )
        retry.again_ns = engine.now_ns + wait
        when = retry.again_ns
        if record.asked_ns >= 0 and _measured(retry):
            when = min(when, record.asked_ns + record.silence.odd_after(engine.options.suspect_phi))
        self._alarm(retry, when)

    def _alarm(self, retry: Retry, when_ns: int) -> None:
        retry.alarm_ns = min(when_ns, retry.letter.until_ns)
        self._engine.alarms.set(retry.alarm_ns, retry)

    def due(self, retry: Retry) -> None:
        """Send an envelope again, or give it up."""
        engine, letter, record = self._engine, retry.letter, retry.record
        over = engine.now_ns >= letter.until_ns or not letter.wanted
        if over or (_measured(retry) and engine.peers.suspected(record)):
            self._give_up(retry)
        elif engine.now_ns < record.quiet_ns:
            self._alarm(retry, record.quiet_ns)
        elif engine.now_ns < retry.again_ns:
            self._alarm(retry, retry.again_ns)
        elif letter.number in record.unsent:
            self._wait(retry)  # the host has not even sent the last one
        elif not retry.left:
            self._give_up(retry)
        else:
            retry.left -= 1
            retry.times += 1
            record.acks.timed_out(retry.times)
            engine.counters["retried"] += 1
            engine.peers.asked(record)
            engine.post.outbound.ship(record, letter, again=True)
            self._wait(retry)

    def _give_up(self, retry: Retry) -> None:
        engine, letter = self._engine, retry.letter
        self._stop(retry)
        if not letter.wanted:
            return
        engine.drop("unacknowledged", letter.peer, letter.edge.name)
        engine.peers.failed(retry.record)
        self._fail(letter, "undeliverable")

    def _fail(self, letter: Letter, reason: str) -> None:
        if letter.frame is None:
            return
        for reply in letter.replies:
            self._engine.gathers.answer_failed(letter.frame, reply.name, letter.peer, reason)

    def _forget(self, retry: Retry) -> None:
        number = retry.letter.number
        retry.alarm_ns = -1
        self.open.pop(number, None)
        retry.record.retrying.pop(number, None)

    def _stop(self, retry: Retry) -> None:
        """Send an envelope no more, though nobody knows whether it came."""
        self._forget(retry)
        if retry.letter.edge.ordered:
            self._engine.order.lost(retry.record, retry.letter.number)

    # What ends a retry

    def acknowledged(self, record: Peer, number: int) -> bool:
        """Note that a message came; returns false when nobody waited for that."""
        retry = record.retrying.get(number)
        if retry is None:
            return False
        self._forget(retry)
        if retry.times and retry.letter.replies:
            record.skip = True  # nobody knows which copy is answered
        taken = self._engine.now_ns - retry.sent_ns
        if not retry.times and taken > 0:
            record.acks.observe(taken)
        return True

    def refused(self, record: Peer, number: int, reason: str) -> bool:
        """Note that a message will not be taken; returns false when nobody waited for that."""
        retry = record.retrying.get(number)
        if retry is None:
            return False
        self._forget(retry)
        self._engine.drop(f"refused.{reason}", record.id, retry.letter.edge.name)
        self._fail(retry.letter, "answer_failed")
        return True

    def answered(self, record: Peer, frame: Frame, edge: str) -> None:
        """Note that the answer of a peer to a frame is here, or will not come."""
        for retry in tuple(record.retrying.values()):
            letter = retry.letter
            if letter.frame is frame and any(reply.name == edge for reply in letter.replies):
                record.skip = record.skip or retry.times > 0
                self._stop(retry)

    def frame_ended(self, frame: Frame) -> None:
        """Ask nobody again for a frame that has ended."""
        for number in frame.messages:
            retry = self.open.get(number)
            if retry is not None and retry.letter.frame is frame:
                self._stop(retry)

    def drop_all(self, record: Peer) -> None:
        """Send nothing again to a peer that is lost."""
        for retry in tuple(record.retrying.values()):
            self._stop(retry)
            self._fail(retry.letter, "undeliverable")

    # Snapshots

    def state(self) -> list[dict[str, Any]]:
        """Return what is not acknowledged as plain data."""
        now = self._engine.now_ns
        return [
            {
                "letter": retry.letter.state(now),
                "left": retry.left,
                "times": retry.times,
                "sent_ns": retry.sent_ns - now,
                "again_ns": retry.again_ns - now,
                "alarm_ns": retry.alarm_ns - now,
            }
            for retry in self.open.values()
        ]

    def load(self, state: Iterable[Mapping[str, Any]]) -> None:
        """Take over what `state` gave; the frames and peers are there already."""
        engine = self._engine
        for retry in tuple(self.open.values()):
            self._forget(retry)
        for row in state:
            letter = engine.post.outbound.letter_of(row["letter"])
            record = engine.peers.of(letter.peer)
            sent = engine.now_ns + row["sent_ns"]
            retry = Retry(record, letter, whole(row["left"]), whole(row["times"]), sent)
            retry.again_ns = engine.now_ns + row["again_ns"]
            self._keep(retry)
            self._alarm(retry, engine.now_ns + row["alarm_ns"])


def _measured(retry: Retry) -> bool:
    """Whether a peer that is suspected is not asked again, because a program measures answers.

    One copy may get lost without its peer being gone.
    """
    return retry.times > 0 and any(reply.auto for reply in retry.letter.replies)
