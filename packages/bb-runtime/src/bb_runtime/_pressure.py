"""What comes in: how much the Node takes on, of all peers together and of each.

Frames and bytes are charged to the peer that caused them, from the offer until its lease or its
frame ends. A peer has a share of each total, and an eighth of each is kept for answers that
frames wait for: else what they wait for could be what keeps them waiting.

An envelope that finds no room is not refused if room can come: its peer is told `Later`, and the
host stops reading from it until a `Readable` step. A peer that used up its own share is also sent a
`Later` notice, and its Node then sends nothing for a while.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import TYPE_CHECKING

from bb_ir.ids import PeerId
from bb_ir.wire import Later as LaterNotice
from bb_runtime import _health
from bb_runtime._estimates import LONGEST_NS
from bb_runtime.steps import Readable

if TYPE_CHECKING:
    from bb_runtime._engine import Engine
    from bb_runtime._peers import Peer
    from bb_runtime.options import Options

__all__ = ["Pressure", "share_of"]

_FOR_ANSWERS = 8


def share_of(total: int, options: Options) -> int:
    """Return how much of a total one peer may have."""
    return int(total * options.peer_share)


class Pressure:
    """Bounds of what comes in, and the peers that are to wait."""

    __slots__ = ("_engine", "_few", "_little", "_options", "leases", "paused")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._options: Options | None = None
        #: Up to here nobody is turned away.
        self._few = self._little = 0
        #: Envelopes that were offered and not received; admission's.
        self.leases: Sized = ()
        #: Peers that were told to come later, in that order.
        self.paused: dict[PeerId, Peer] = {}

    def check(self, record: Peer | None, length: int, *, answer: bool) -> str:
        """Return why an envelope cannot be taken now: `busy` or `later`, or an empty text."""
        engine = self._engine
        options = engine.options
        if options is not self._options:
            self._options = options
            self._few = options.max_frames - options.max_frames // _FOR_ANSWERS
            self._little = options.max_inbound_bytes - options.max_inbound_bytes // _FOR_ANSWERS
        if (
            (record is None or not record.frames)
            and len(engine.frames) + len(self.leases) < self._few
            and engine.payload_held + length <= self._little
        ):
            return ""  # as nearly always
        frames, most_frames = len(engine.frames) + len(self.leases), options.max_frames
        held, most_bytes = engine.payload_held + length, options.max_inbound_bytes
        if not answer:
            most_frames -= most_frames // _FOR_ANSWERS
            # A payload that finds nothing else here may have it all.
            if held > length:
                most_bytes -= most_bytes // _FOR_ANSWERS
        if frames >= most_frames:
            return "later" if frames else "busy"
        if held > most_bytes:
            return "later" if length <= options.max_inbound_bytes else "busy"
        if record is None or not record.frames:
            return ""
        if record.frames >= max(1, share_of(options.max_frames, options)):
            return "later"
        own = share_of(options.max_inbound_bytes, options)
        return "later" if record.held + length > own else ""

    def release(self, record: Peer, length: int) -> None:
        """Take back what an envelope was charged, whose lease or frame has ended."""
        record.frames -= 1
        record.held -= length
        if record.group is not None:
            record.group.frames -= 1
            record.group.held -= length
        self._engine.payload_held -= length
        if self.paused:
            self.resume()

    def pause(self, record: Peer, length: int) -> None:
        """Have a peer wait for so much room; tell it so when it used up its own share."""
        record.wants = length
        self.paused[record.id] = record
        engine = self._engine
        engine.counters["later"] += 1
        options = engine.options
        own = record.frames >= max(1, share_of(options.max_frames, options)) or (
            record.held + length > share_of(options.max_inbound_bytes, options)
        )
        if not own or engine.now_ns < record.noticed_ns:
            return
        if record.notices and engine.now_ns >= record.noticed_ns + LONGEST_NS:
            record.notices = 0  # that was long ago
        wait = min(_health.backoff_ns(engine, f"later/{record.id}", record.notices), LONGEST_NS)
        record.notices += 1
        record.noticed_ns = engine.now_ns + wait
        engine.post.control(record.id, LaterNotice(wait))

    def resume(self) -> None:
        """Let peers come again for which there is room."""
        taken_bytes = taken_frames = 0
        engine = self._engine
        for record in tuple(self.paused.values()):
            if len(engine.frames) + len(self.leases) + taken_frames >= engine.options.max_frames:
                return
            if self.check(record, record.wants + taken_bytes, answer=True):
                continue
            taken_bytes += record.wants
            taken_frames += 1
            self.let_go(record)

    def let_go(self, record: Peer) -> None:
        """Let a peer come again."""
        record.wants = -1
        del self.paused[record.id]
        self._engine.steps.append(Readable(record.id))
