"""Inbound envelopes: checked and charged before anything is allocated for them.

`offer` sees prelude and header only. In order: format and limits, duplicate, program, edge, then
either the frame that expects the reply or the class that may send the edge, then fills and bytes.
What fails is counted by reason, dropped, and never answered, unless an authorized peer waits for
an answer that now will not come. What passes gets a `Lease` with a buffer of exactly its size.

This module decides and decodes; frames are the engine's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from bb_ir.buffers import BufferPool, allocate
from bb_ir.errors import WireError
from bb_ir.ids import PeerId
from bb_ir.values import decode_value
from bb_ir.wire import (
    EnvelopeHead,
    EnvelopeRefused,
    Failed,
    WireLimits,
    fill_data,
    read_header,
    read_prelude,
)
from bb_runtime._engine import Engine
from bb_runtime._frames import OPEN, Frame, ReturnAddress
from bb_runtime.artifact import Edge

__all__ = ["Admission", "Lease", "Refuse"]

_WINDOW = 256


class Refuse(NamedTuple):
    """An envelope that is not taken.

    Attributes:
        reason: A stable code.
        skip: Bytes of payload that follow and shall be skipped.
        close: Whether nothing more on the same stream can be trusted.
    """

    reason: str
    skip: int
    close: bool


class Lease:
    """A place for the payload of one admitted envelope.

    Attributes:
        buffer: Writable bytes of exactly the payload's size; the host fills them.
    """

    __slots__ = ("buffer", "edge", "head", "parent", "source", "used")

    def __init__(
        self, head: EnvelopeHead, edge: Edge | None, source: PeerId, buffer: memoryview
    ) -> None:
        self.head = head
        self.edge = edge
        self.source = source
        self.buffer = buffer
        self.parent: Frame | None = None
        self.used = False


class _Window:
    """Message ids seen from one peer: the highest, and a bit for each of the 256 below."""

    __slots__ = ("bits", "highest", "incarnation")

    def __init__(self, incarnation: int) -> None:
        self.incarnation = incarnation
        self.highest = 0
        self.bits = 0

    def check(self, message_id: int) -> str:
        """Return why an id is refused, or an empty text."""
        behind = self.highest - message_id
        if behind < 0:
            return ""
        if behind >= _WINDOW:
            return "too_old"
        return "duplicate" if self.bits >> behind & 1 else ""

    def mark(self, message_id: int) -> None:
        """Remember an id that was admitted."""
        ahead = message_id - self.highest
        if ahead > 0:
            self.bits = (self.bits << min(ahead, _WINDOW) | 1) & ((1 << _WINDOW) - 1)
            self.highest = message_id
        else:
            self.bits |= 1 << -ahead


class Admission:
    """Decides what comes in."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.pool = BufferPool()
        self.authorized: dict[str, set[PeerId]] = {}
        options = engine.options
        self._limits = WireLimits(
            header=options.max_header_bytes, payload=options.max_envelope_bytes
        )
        self._windows: dict[PeerId, _Window] = {}

    def offer(self, prelude: bytes | memoryview, header: bytes | memoryview, source: PeerId) -> Lease | Refuse:
        """Check an envelope by its first two parts."""
        try:
            head = read_header(read_prelude(prelude, self._limits), header, self._limits)
        except EnvelopeRefused as error:
            self.engine.drop(error.reason, source, "")
            return Refuse(error.reason, error.skip, error.close)
        reason, edge, parent = self._decide(head, source)
        if reason:
            self.engine.drop(reason, source, edge.name if edge else "")
            if reason == "busy" and edge is not None:
                self._answer_failed(head, edge, source, reason)
            return Refuse(reason, head.payload_length, close=False)
        self._window(source, head.incarnation).mark(head.message_id)
        buffer = memoryview(allocate(head.payload_length, self.pool))
        lease = Lease(head, edge, source, buffer)
        lease.parent = parent
        self.engine.payload_held += head.payload_length
        return lease

    def abandon(self, lease: Lease) -> None:
        """Give back a lease whose payload did not come."""
        if lease.used:
            return
        lease.used = True
        self.engine.payload_held -= lease.head.payload_length
        self.engine.drop("abandoned", lease.source, lease.edge.name if lease.edge else "")
        if lease.edge is not None:
            self._unanswered(lease, "abandoned")

    def receive(self, lease: Lease) -> None:
        """Take in an envelope whose payload is in the lease's buffer."""
        if lease.used:
            return
        lease.used = True
        engine, head, edge = self.engine, lease.head, lease.edge
        if edge is None:
            engine.payload_held -= head.payload_length
            self._control(head, lease.source)
            return
        try:
            values = self._decode(head, edge, lease.buffer)
        except WireError as error:
            engine.payload_held -= head.payload_length
            engine.drop("bad_value", lease.source, edge.name)
            self._unanswered(lease, type(error).__name__)
            return
        hops = head.chain
        frame = engine.message_frame(
            edge, values, lease.source, hops, head.message_id, head.remaining_ns
        )
        frame.payload = head.payload_length
        if lease.parent is None:
            if not engine.open_root(frame):
                self._answer_failed(head, edge, lease.source, "queue_full")
        elif self._still_open(lease.parent, edge, lease.source):
            engine.open_child(frame, lease.parent, edge)
        else:
            engine.drop("late", lease.source, edge.name)
            engine._forget(frame)  # noqa: SLF001  # it never lived

    # Decisions

    def _decide(self, head: EnvelopeHead, source: PeerId) -> tuple[str, Edge | None, Frame | None]:
        engine = self.engine
        window = self._window(source, head.incarnation)
        if head.incarnation < window.incarnation:
            return "stale", None, None
        seen = window.check(head.message_id)
        if seen:
            return seen, None, None
        if head.program != engine.program_id:
            return "version_skew", None, None
        if head.control is not None:
            return "", None, None
        edge = engine.artifact.edges_by_id.get(head.edge)
        if edge is None or edge.name not in engine.regions:
            return "unknown_edge", None, None
        expected_hops = bool(edge.parent) + edge.answered
        if len(head.chain) != expected_hops or len(head.fills) != len(edge.ports):
            return "bad_shape", edge, None
        reason, parent = self._gate(head, edge, source)
        if not reason and engine.payload_held + head.payload_length > (
            engine.options.max_inbound_bytes
        ):
            reason = "busy"
        if not reason and len(engine.frames) >= engine.options.max_frames:
            reason = "busy"
        return reason, edge, parent

    def _gate(self, head: EnvelopeHead, edge: Edge, source: PeerId) -> tuple[str, Frame | None]:
        if not edge.parent:
            allowed = source in self.authorized.get(edge.source_class, ())
            return ("" if allowed else "not_authorized"), None
        hop = head.chain[0]
        if hop.incarnation != self.engine.incarnation:
            return "unknown_frame", None
        parent = self.engine.frames.get(hop.frame)
        if parent is None:
            return "late", None
        if edge.name not in parent.expected or source not in parent.expected[edge.name]:
            return "unexpected", None
        if not self._still_open(parent, edge, source):
            return "late", None
        return "", parent

    @staticmethod
    def _still_open(parent: Frame, edge: Edge, source: PeerId) -> bool:
        return not parent.ended and parent.expected[edge.name].get(source) == OPEN

    def _window(self, source: PeerId, incarnation: int) -> _Window:
        window = self._windows.get(source)
        if window is None or incarnation > window.incarnation:
            window = self._windows[source] = _Window(incarnation)
        return window

    @staticmethod
    def _decode(head: EnvelopeHead, edge: Edge, payload: memoryview) -> list[Any]:
        parts = fill_data(head, payload)
        return [
            decode_value(type_, fill.codec, part, fill.shape)
            for (_, type_), fill, part in zip(edge.ports, head.fills, parts, strict=True)
        ]

    def _control(self, head: EnvelopeHead, source: PeerId) -> None:
        control = head.control
        if not isinstance(control, Failed) or control.incarnation != self.engine.incarnation:
            self.engine.drop("unknown_control", source, "")
            return
        frame = self.engine.frames.get(control.frame)
        edge = self.engine.artifact.edges_by_id.get(control.edge)
        if frame is None or edge is None:
            self.engine.counters["late"] += 1
            return
        self.engine.answer_failed(frame, edge, source, "answer_failed")

    def _unanswered(self, lease: Lease, reason: str) -> None:
        """A branch ends here: tell whoever waits for it."""
        edge = lease.edge
        assert edge is not None  # control has no branch
        if lease.parent is not None:
            self.engine.answer_failed(lease.parent, edge, lease.source, "answer_failed")
        self._answer_failed(lease.head, edge, lease.source, reason)

    def _answer_failed(
        self, head: EnvelopeHead, edge: Edge, source: PeerId, reason: str
    ) -> None:
        if not edge.answered:
            return
        hop = head.chain[-1]
        for owed in self.engine.answering[edge.name]:
            address = ReturnAddress(source, hop.frame, hop.incarnation)
            self.engine.refuse_answer(address, owed, reason)
