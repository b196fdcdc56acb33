"""Inbound envelopes: checked and charged before anything is allocated for them.

`offer` sees prelude and header only. In order: format and limits, blocked peers, duplicates,
program, edge, then either the frame that expects the reply or the class that may send the edge,
then what the edge may carry, then what the Node can take on. What fails is counted by reason,
dropped, and never answered, unless an authorized peer waits for an answer that now will not come.
What passes gets a `Lease` with a buffer of exactly its size.

Nothing is remembered about a peer before one of its envelopes passed. This module decides and
decodes; frames are the engine's.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from bb_ir.buffers import allocate
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
from bb_runtime._frames import LIVE, OPEN, Frame
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
        self,
        head: EnvelopeHead,
        edge: Edge,
        source: PeerId,
        buffer: memoryview,
        parent: Frame | None,
    ) -> None:
        self.head = head
        self.edge = edge
        self.source = source
        self.buffer = buffer
        self.parent = parent
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


class _No(Exception):  # never leaves this module
    """An envelope that is not taken, and whether those who wait for its branch hear of it."""

    def __init__(
        self,
        reason: str,
        edge: Edge | None = None,
        parent: Frame | None = None,
        *,
        tell: bool = False,
    ) -> None:
        self.reason = reason
        self.edge = edge
        self.parent = parent
        self.tell = tell
        super().__init__(reason)


class Admission:
    """Decides what comes in."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.authorized: dict[str, set[PeerId]] = {}
        options = engine.options
        self._limits = WireLimits(
            header=options.max_header_bytes, payload=options.max_envelope_bytes
        )
        self._windows: dict[PeerId, _Window] = {}

    def offer(
        self, prelude: bytes | memoryview, header: bytes | memoryview, source: PeerId
    ) -> Lease | Refuse:
        """Check an envelope by its first two parts."""
        try:
            head = read_header(read_prelude(prelude, self._limits), header, self._limits)
        except EnvelopeRefused as error:
            self.engine.drop(error.reason, source, "")
            return Refuse(error.reason, error.skip, error.close)
        try:
            edge, parent = self._decide(head, source)
            buffer = self._room(head, edge, parent)
        except _No as no:
            self.engine.drop(no.reason, source, no.edge.name if no.edge else "")
            if no.tell and no.edge is not None:
                self._branch_ends(head, no.edge, no.parent, source, no.reason)
            return Refuse(no.reason, head.payload_length, close=False)
        self._mark(head, source)
        self.engine.payload_held += head.payload_length
        return Lease(head, edge, source, buffer, parent)

    def abandon(self, lease: Lease) -> None:
        """Give back a lease whose payload did not come."""
        if lease.used:
            return
        lease.used = True
        self.engine.payload_held -= lease.head.payload_length
        self.engine.drop("abandoned", lease.source, lease.edge.name)
        self._branch_ends(lease.head, lease.edge, lease.parent, lease.source, "abandoned")

    def receive(self, lease: Lease) -> None:
        """Take in an envelope whose payload is in the lease's buffer."""
        if lease.used:
            return
        lease.used = True
        engine, head, edge, parent = self.engine, lease.head, lease.edge, lease.parent
        if head.control is not None:
            assert parent is not None  # only word of a failed answer is admitted
            engine.gathers.answer_failed(parent, edge.name, lease.source, "answer_failed")
            engine.tidy()
            return
        if parent is not None and not _still_open(parent, edge, lease.source):
            engine.payload_held -= head.payload_length
            engine.drop("late", lease.source, edge.name)
            return
        try:
            values = self._decode(head, edge, lease.buffer)
        except WireError as error:
            engine.payload_held -= head.payload_length
            engine.drop("bad_value", lease.source, edge.name)
            self._branch_ends(head, edge, parent, lease.source, type(error).__name__)
            return
        engine.receive(edge, values, head, lease.source, parent)

    # Decisions

    def _decide(self, head: EnvelopeHead, source: PeerId) -> tuple[Edge, Frame | None]:
        """Return the edge of an envelope and the frame that waits for it, or raise why not."""
        engine = self.engine
        if source in engine.gathers.blocked:
            raise _No("blocked")
        self._check_seen(head, source)
        if head.program != engine.post.program:
            raise _No("version_skew")
        if head.control is not None:
            return self._decide_control(head, source)
        edge = engine.artifact.edges_by_id.get(head.edge)
        if edge is None or edge.name not in engine.regions:
            raise _No("unknown_edge")
        expected_hops = bool(edge.parent) + edge.answered
        if len(head.chain) != expected_hops or len(head.fills) != len(edge.ports):
            raise _No("bad_shape", edge)
        if edge.parent:
            hop = head.chain[0]
            return edge, self._waiting(hop.frame, hop.incarnation, edge, source)
        if source not in self.authorized.get(edge.source_class, ()):
            raise _No("not_authorized", edge)
        return edge, None

    def _decide_control(self, head: EnvelopeHead, source: PeerId) -> tuple[Edge, Frame]:
        control = head.control
        if not isinstance(control, Failed):
            raise _No("unknown_control")
        edge = self.engine.artifact.edges_by_id.get(control.edge)
        if edge is None:
            raise _No("unknown_edge")
        return edge, self._waiting(control.frame, control.incarnation, edge, source)

    def _waiting(self, frame: int, incarnation: int, edge: Edge, source: PeerId) -> Frame:
        """Return the frame that waits for an answer of a peer on an edge."""
        if incarnation != self.engine.incarnation:
            raise _No("unknown_frame", edge)
        parent = self.engine.frames.get(frame)
        if parent is None:
            raise _No("late", edge)
        if source not in parent.expected.get(edge.name, ()):
            raise _No("unexpected", edge)
        if not _still_open(parent, edge, source):
            raise _No("late", edge)
        return parent

    def _check_seen(self, head: EnvelopeHead, source: PeerId) -> None:
        window = self._windows.get(source)
        if window is None:
            return
        if head.incarnation < window.incarnation:
            raise _No("stale")
        if head.incarnation == window.incarnation:
            seen = window.check(head.message_id)
            if seen:
                raise _No(seen)
        elif head.program == self.engine.post.program:
            # It started anew, and what it was asked before is forgotten there.
            del self._windows[source]
            self.engine.gathers.peer_lost(source, "restarted")

    def _mark(self, head: EnvelopeHead, source: PeerId) -> None:
        window = self._windows.get(source)
        if window is None:
            window = self._windows[source] = _Window(head.incarnation)
        window.mark(head.message_id)

    def _room(self, head: EnvelopeHead, edge: Edge, parent: Frame | None) -> memoryview:
        """Return the buffer for a payload that the edge allows, if the Node can take on more."""
        engine, options = self.engine, self.engine.options
        if edge.max_payload and head.payload_length > edge.max_payload:
            raise _No("too_large", edge, parent, tell=True)
        if head.control is None and (
            engine.payload_held + head.payload_length > options.max_inbound_bytes
            or len(engine.frames) >= options.max_frames
        ):
            raise _No("busy", edge, parent, tell=True)
        try:
            return memoryview(cast("Any", allocate(head.payload_length, self.engine.pool)))
        except MemoryError:
            raise _No("busy", edge, parent, tell=True) from None

    def _decode(self, head: EnvelopeHead, edge: Edge, payload: memoryview) -> list[Any]:
        parts, codecs = fill_data(head, payload), self.engine.post.codecs
        return [
            decode_value(type_, fill.codec, part, fill.shape, codecs)
            for (_, type_), fill, part in zip(edge.ports, head.fills, parts, strict=True)
        ]

    def _branch_ends(
        self, head: EnvelopeHead, edge: Edge, parent: Frame | None, source: PeerId, reason: str
    ) -> None:
        """Tell whoever waits for a branch that ends here: our own frame, and the peer's."""
        if parent is not None:
            self.engine.gathers.answer_failed(parent, edge.name, source, "answer_failed")
            self.engine.tidy()
        if edge.answered and head.control is None:
            self.engine.post.refuse_all(edge, source, head.chain[-1], reason)


def _still_open(parent: Frame, edge: Edge, source: PeerId) -> bool:
    return parent.state == LIVE and parent.expected[edge.name].get(source) == OPEN
