"""What goes out: how much of it a host holds, and what waits here until it may go.

A send waits while its peer asked for time or is left alone (`Peer.quiet_ns`), while the host holds
too many bytes for that peer or for all, and behind whatever waits for the same peer already. The
frame that sends does not end meanwhile. What waits for one peer never stops what goes to others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from bb_ir.ids import PeerId
from bb_ir.values import Encoded
from bb_ir.wire import FLAG_RETRY, Built, Hop
from bb_runtime._frames import ENDED, NOTHING, Frame, ReturnAddress
from bb_runtime._letters import Letter, Writer
from bb_runtime._misread import whole
from bb_runtime._pressure import share_of
from bb_runtime.steps import Ship

if TYPE_CHECKING:
    from bb_runtime._engine import Engine
    from bb_runtime._peers import Peer
    from bb_runtime.references import Referred

__all__ = ["Outbound"]


class Outbound:
    """Envelopes of one Node that were handed to the host, or wait to be."""

    __slots__ = ("_engine", "_waiting", "unsent_bytes")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.unsent_bytes = 0
        #: Peers that something waits for, in the order in which they came to it.
        self._waiting: dict[PeerId, Peer] = {}

    # Sending

    def post(self, record: Peer, letter: Letter, built: Built | Referred) -> bool:
        """Send an envelope, or have it wait until it may be sent; false if there is no room."""
        if not record.waiting and not self._held_up(record, letter.size):
            self._hand_out(record, letter, built)
            return True
        engine, frame = self._engine, letter.frame
        assert frame is not None  # a frame that sends
        if len(record.waiting) >= engine.options.max_queued:
            engine.drop("unsent_full", letter.peer, letter.edge.name)
            return False
        frame.unsent += 1
        if not frame.bound.program.waits:
            engine.timers.set(frame.deadline_ns, frame)  # it was not to wait, and now it does
        record.skip = True
        record.waiting.append(letter)
        self._waiting[record.id] = record
        self._set_alarm(record)
        return True

    def ship(self, record: Peer, letter: Letter, *, again: bool = False) -> None:
        """Hand an envelope to the host."""
        engine = self._engine
        remaining = letter.until_ns - engine.now_ns
        if remaining <= 0:
            self._unsent(letter, "unsent")
            return
        flags, after = FLAG_RETRY if again else 0, letter.after
        if letter.edge.ordered and not again:
            after = engine.order.before(record, letter.edge)
        built = letter.writer.build(letter.to, letter.number, remaining, flags, after)
        self._hand_out(record, letter, built, again=again)

    def _hand_out(
        self, record: Peer, letter: Letter, built: Built | Referred, *, again: bool = False
    ) -> None:
        engine, size = self._engine, letter.size
        record.bytes_out += size
        engine.steps.append(Ship(record.id, built, letter.number))
        if engine.options.max_unsent_bytes:
            if record.unsent is NOTHING:
                record.unsent = {}
            record.unsent[letter.number] = size
            record.unsent_bytes += size
            if record.group is not None:
                record.group.unsent_bytes += size
            self.unsent_bytes += size
        if letter.edge.ordered and not again:
            engine.order.sent(record, letter)
        if letter.replies:
            engine.peers.asked(record)
        if letter.edge.retries and not again:
            engine.post.retries.watch(record, letter)

    def sent(self, record: Peer, number: int) -> None:
        """Note that the host does not hold an envelope any more."""
        size = record.unsent.pop(number, 0)
        if size:
            record.unsent_bytes -= size
            if record.group is not None:
                record.group.unsent_bytes -= size
            self.unsent_bytes -= size
            self.flush_all()

    def flush_all(self) -> None:
        """Send what waited and may go now, to whomever."""
        for record in tuple(self._waiting.values()):
            self.flush(record)

    def flush(self, record: Peer) -> None:
        """Send what waited for a peer and may go now."""
        waiting = record.waiting
        while waiting:
            letter = waiting[0]
            if letter.wanted and self._held_up(record, letter.size):
                self._set_alarm(record)
                return
            waiting.pop(0)
            self._let_go(letter.frame)
            if letter.wanted:
                self.ship(record, letter)
                if self._engine.paces.recent:
                    self._engine.paces.shipped(letter)
        self._waiting.pop(record.id, None)

    def sift(self, record: Peer) -> None:
        """Drop what waits for a peer and is not wanted any more."""
        waiting = record.waiting
        record.waiting = [letter for letter in waiting if letter.wanted]
        for letter in waiting:
            if not letter.wanted:
                self._let_go(letter.frame)
        if not record.waiting:
            self._waiting.pop(record.id, None)

    def frame_ended(self, frame: Frame) -> None:
        """Drop what a frame that has ended did not get to send."""
        frame.unsent = 0
        for record in tuple(self._waiting.values()):
            own = [letter for letter in record.waiting if letter.frame is frame]
            if not own:
                continue
            record.waiting = [letter for letter in record.waiting if letter.frame is not frame]
            if not record.waiting:
                del self._waiting[record.id]
            for letter in own:
                self._engine.drop("unsent", record.id, letter.edge.name)

    def drop_all(self, record: Peer, reason: str) -> None:
        """Drop what waits for a peer that is lost."""
        waiting, record.waiting = record.waiting, []
        self._waiting.pop(record.id, None)
        for letter in waiting:
            self._let_go(letter.frame)
            self._unsent(letter, reason)

    def _let_go(self, frame: Frame | None) -> None:
        if frame is not None and frame.state != ENDED:
            frame.unsent -= 1
            self._engine.touch(frame)

    def _unsent(self, letter: Letter, reason: str) -> None:
        engine = self._engine
        engine.drop(reason, letter.peer, letter.edge.name)
        if letter.frame is not None:
            for reply in letter.replies:
                engine.gathers.answer_failed(letter.frame, reply.name, letter.peer, "undeliverable")

    def _held_up(self, record: Peer, size: int) -> bool:
        engine = self._engine
        if engine.now_ns < record.quiet_ns:
            return True
        most = engine.options.max_unsent_bytes
        unsent = (record.group or record).unsent_bytes
        if not most or not unsent:
            # One envelope may always be on its way to a peer: no bound is so low that nothing goes.
            return bool(most and self.unsent_bytes and self.unsent_bytes + size > most)
        share = share_of(most, engine.options)
        return unsent + size > share or self.unsent_bytes + size > most

    def _set_alarm(self, record: Peer) -> None:
        engine = self._engine
        if engine.now_ns < record.quiet_ns != record.alarm_ns:
            record.alarm_ns = record.quiet_ns
            engine.alarms.set(record.quiet_ns, record)

    # Snapshots

    def state(self) -> list[dict[str, Any]]:
        """Return what waits as plain data; values are copied out of shared memory."""
        now = self._engine.now_ns
        return [one.state(now) for record in self._waiting.values() for one in record.waiting]

    def load(self, state: Iterable[Mapping[str, Any]]) -> None:
        """Take over what `state` gave; the frames and peers are there already."""
        self._waiting.clear()
        for row in state:
            letter = self.letter_of(row)
            if letter.frame is None:
                continue
            record = self._engine.peers.of(letter.peer)
            record.waiting.append(letter)
            letter.frame.unsent += 1
            self._waiting[record.id] = record
            self._set_alarm(record)

    def letter_of(self, row: Mapping[str, Any]) -> Letter:
        """Return a letter that was stored."""
        engine = self._engine
        edge = engine.artifact.edges[row["edge"]]
        to = row["to"]
        writer = Writer(
            engine.post.program, edge, incarnation=whole(row["incarnation"]),
            own=tuple(Hop(*hop) for hop in row["own"]),
            fills=[Encoded(*fill) for fill in row["fills"]], limits=engine.post.limits,
            grants=engine.grants if edge.granted else None,
        )  # fmt: skip
        return Letter(
            writer, to if isinstance(to, PeerId) else ReturnAddress(*to), whole(row["number"]),
            engine.frames.get(row["frame"]), engine.post.answering[edge.name],
            engine.now_ns + int(row["left_ns"]), whole(row["size"]), whole(row["after"]),
        )  # fmt: skip
