"""Inbound envelopes: checked and charged before anything is allocated for them.

`offer` sees prelude and header only. In order: format and limits, blocked peers, duplicates,
program, edge, then either the frame that expects the reply or the class that may send the edge,
then what the edge may carry, then what the Node can take on. What fails is counted by reason,
dropped, and never answered, unless an authorized peer waits for an answer that now will not come,
or a peer that we talk to would send it again. What only finds no room is to come `Later`. What
passes gets a `Lease` with a buffer of exactly its size.

Nothing is remembered about a peer before one of its envelopes passed. This module decides and
decodes; frames are the engine's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

from bb_ir.buffers import allocate
from bb_ir.errors import WireError
from bb_ir.ids import PeerId
from bb_ir.values import decode_value
from bb_ir.wire import (
    EnvelopeHead,
    EnvelopeRefused,
    Failed,
    fill_data,
    read_header,
    read_prelude,
)
from bb_runtime._controls import Controls
from bb_runtime._engine import Engine
from bb_runtime._frames import LIVE, NOTHING, OPEN, Frame
from bb_runtime._leases import Later, Lease, Refuse
from bb_runtime._order import Line
from bb_runtime._peers import Peer
from bb_runtime._windows import Window
from bb_runtime.artifact import Edge

if TYPE_CHECKING:
    from bb_runtime.references import Referred

__all__ = ["Admission", "Later", "Lease", "Refuse"]

#: Why a message that may be sent again is better not.
_FOR_GOOD = frozenset(
    {"closed", "closing", "late", "out_of_order", "too_large", "too_old", "unknown_frame"}
)
#: Why one that is sent once will not be taken later either.
_ONCE = frozenset({"bad_grant", "bad_shape", "busy", "unexpected"})

#: An edge, and the frame that waits for what came on it.
_Place = tuple[Edge, Frame | None]

#: Where nothing is to be filled in.
_NOTHING = memoryview(b"")

#: Stands for the edge of control messages that have none.
_NO_EDGE = Edge("", 0, "", "", "", "", "", answered=False, ports=(), deadline_ns=0)


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

    __slots__ = ("_limits", "authorized", "controls", "engine", "leases")

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.authorized: dict[str, set[PeerId]] = {}
        self._limits = engine.post.limits
        self.controls = Controls(engine)
        #: Leases that were lent and neither received nor abandoned, and until when.
        self.leases: dict[Lease, int] = {}
        engine.pressure.leases = self.leases
        engine.order.open, engine.order.drop = self._open_early, self._drop_early

    @property
    def open_leases(self) -> int:
        """How many leases were lent and neither received nor abandoned."""
        return len(self.leases)

    @property
    def windows(self) -> list[tuple[Any, ...]]:
        """What was seen of each peer, as a `Window` is made of it."""
        records = self.engine.peers.records.values()
        return [(record.id, *record.window.state()) for record in records if record.window]

    def replace(
        self, authorized: dict[str, set[PeerId]], windows: Iterable[tuple[Any, ...]]
    ) -> None:
        """Let others be authorized, and other messages have been seen."""
        self.authorized = authorized
        peers = self.engine.peers
        for record in peers.records.values():
            record.window = None
        for peer, *seen in windows:
            peers.of(peer).window = Window(*seen)

    def offer(
        self, prelude: bytes | memoryview, header: bytes | memoryview, source: PeerId
    ) -> Lease | Refuse | Later:
        """Check an envelope by its first two parts."""
        try:
            head = read_header(read_prelude(prelude, self._limits), header, self._limits)
        except EnvelopeRefused as error:
            self.engine.drop(error.reason, source, "")
            return Refuse(error.reason, error.skip, error.close)
        lease = self._admit(head, source, len(prelude) + len(header))
        if isinstance(lease, Lease):
            self.leases[lease] = self.engine.now_ns + self.engine.options.lease_ns
        return lease

    def take(self, envelope: Referred, source: PeerId) -> Refuse | Later | None:
        """Check an envelope that comes by reference, and take it in if it is admitted."""
        lease = self._admit(envelope.read(), source, envelope.head_length, envelope.values)
        if not isinstance(lease, Lease):
            return lease
        self._receive(lease, envelope.values)
        return None

    def _admit(
        self,
        head: EnvelopeHead,
        source: PeerId,
        head_length: int,
        values: Sequence[Any] | None = None,
    ) -> Lease | Refuse | Later:
        """Decide on an envelope, and charge it to its peer; without values it gets a buffer."""
        engine = self.engine
        peers = engine.peers
        record = peers.records.get(source)
        if record is not None:
            now = record.heard_ns = engine.now_ns
            if record.failures or record.holds or -1 < record.asked_ns < now:
                peers.heard(record)
            else:
                record.asked_ns = -1
        try:
            edge, parent = self._decide(head, source, record)
            stranger = bool(engine.options.open_classes) and self._is_strange(
                head, (edge, parent), source
            )
            if edge.ordered and record is not None and head.control is None:
                self._check_order(head, edge, parent, record)
            length = head.payload_length
            self._check_room(head, edge, parent, record)
            buffer = _NOTHING if values is not None else self._buffer(head, edge, parent)
        except _No as no:
            return self._refuse(no, head, source, record)
        if record is None:
            record = peers.of(source)
            record.heard_ns = engine.now_ns
        if stranger:
            engine.strangers.join(record)
        window = record.window
        if window is None:
            window = record.window = Window(head.incarnation)
            if engine.gathers.gone:
                engine.gathers.heard(source, head.incarnation)
        if not edge.retries or head.control is not None:  # else when its payload is here
            window.mark(head.message_id)
        record.frames += 1
        record.held += length
        if record.group is not None:
            record.group.frames += 1
            record.group.held += length
        engine.payload_held += length
        if head.control is None:
            metrics = engine.metrics
            flow = metrics.flows.get(edge.name) or metrics.flow(edge.name)
            flow[2] += 1
            flow[3] += head_length + length
        return Lease(head, edge, source, buffer, parent, record=record)

    def abandon(self, lease: Lease) -> None:
        """Give back a lease whose payload did not come."""
        if not lease.used:
            self._give_back(lease, "abandoned")

    def close(self, *, answers: bool) -> None:
        """Give back leases because the Node closes: those for answers, too, or only others."""
        for lease in tuple(self.leases):
            if answers or (lease.parent is None and lease.head.control is None):
                self._give_back(lease, "closing")
        self.engine.order.close(answers=answers)

    def _give_back(self, lease: Lease, reason: str) -> None:
        lease.used = True
        del self.leases[lease]
        self._released(lease)
        self.engine.drop(reason, lease.source, lease.edge.name)
        if not lease.edge.retries:
            if lease.edge.ordered and lease.head.control is None:
                self.engine.order.skip(lease.record, lease.edge, lease.head)
            self._branch_ends(lease.head, lease.edge, lease.parent, lease.source, reason)
        elif reason != "abandoned":  # else it is sent again
            self.controls.refuse(lease.record, lease.head, reason)

    def receive(self, lease: Lease) -> None:
        """Take in an envelope whose payload is in the lease's buffer."""
        if lease.used:
            return
        del self.leases[lease]
        self._receive(lease, None)

    def _receive(self, lease: Lease, values: Sequence[Any] | None) -> None:
        lease.used = True
        engine, head, edge, parent = self.engine, lease.head, lease.edge, lease.parent
        record = lease.record
        if head.control is not None:
            self._released(lease)
            if parent is None:
                self.controls.take(head.control, record)
                return
            engine.gathers.answer_failed(parent, edge.name, lease.source, "answer_failed")
            engine.tidy()
            return
        if edge.retries and not self._is_new(lease):
            self._released(lease)
            return
        # Without values some time has passed since the offer.
        if values is None and parent is not None and not _still_open(parent, edge, lease.source):
            self._released(lease)
            engine.drop("late", lease.source, edge.name)
            if edge.ordered:
                engine.order.skip(record, edge, head)
            if edge.auto:
                engine.paces.late(record, edge.name, head.chain[0].frame)
            if edge.retries:
                self.controls.refuse(record, head, "late")
            return
        try:
            if values is None:
                values = self._decode(head, edge, lease.buffer)
        except WireError as error:
            self._released(lease)
            engine.drop("bad_value", lease.source, edge.name)
            if edge.ordered:
                engine.order.skip(record, edge, head)
            self._branch_ends(head, edge, parent, lease.source, type(error).__name__)
            if edge.retries:
                self.controls.refuse(record, head, "bad_value")
            return
        if edge.retries:
            self.controls.acknowledge(record, head)
        if edge.ordered and engine.order.holds(record, edge, head, values):
            return
        record.bytes_in += head.payload_length
        if parent is not None:
            asked = parent.asked_at
            took_time = asked is not None and asked.get(edge.name) != engine.now_ns
            if took_time or record.retrying or edge.auto:
                engine.peers.answered(record, parent, edge.name)
        engine.receive(edge, values, head, lease.source, parent, account=record)
        if edge.ordered:
            engine.order.passed(record, edge, head.message_id)

    def _open_early(self, line: Line, head: EnvelopeHead, values: Sequence[Any]) -> None:
        """Open an envelope that waited for the one before it."""
        engine, record, edge = self.engine, line.record, line.edge
        parent = engine.frames.get(head.chain[0].frame) if edge.parent else None
        if edge.parent and (parent is None or not _still_open(parent, edge, record.id)):
            self._drop_early(line, head, "late")
            return
        record.bytes_in += head.payload_length
        if parent is not None:
            engine.peers.answered(record, parent, edge.name)
        engine.receive(edge, values, head, record.id, parent, account=record)

    def _drop_early(self, line: Line, head: EnvelopeHead, reason: str) -> None:
        """Drop an envelope whose payload is here and whose turn does not come."""
        engine, record, edge = self.engine, line.record, line.edge
        engine.pressure.release(record, head.payload_length)
        engine.drop(reason, record.id, edge.name)
        parent = engine.frames.get(head.chain[0].frame) if edge.parent else None
        self._branch_ends(head, edge, parent, record.id, reason)

    def _check_order(
        self, head: EnvelopeHead, edge: Edge, parent: Frame | None, record: Peer
    ) -> None:
        """Raise when one that was sent later was opened before."""
        if self.engine.order.is_late(record, edge, head.message_id):
            raise _No("out_of_order", edge, parent, tell=True)

    def _will_not_come(self, head: EnvelopeHead, edge: Edge, record: Peer, reason: str) -> None:
        """Let nobody wait for an envelope that is refused, if it is not sent again."""
        if reason in _FOR_GOOD or (not edge.retries and reason in _ONCE):
            self.engine.order.skip(record, edge, head)

    def expire(self) -> None:
        """Abandon leases that were not filled in time."""
        now = self.engine.now_ns
        for lease, until in tuple(self.leases.items()):
            if until > now:
                return
            self.abandon(lease)

    def next_expiry(self) -> int | None:
        """Return when the oldest lease has to be filled."""
        return next(iter(self.leases.values()), None)

    def _released(self, lease: Lease) -> None:
        self.engine.pressure.release(lease.record, lease.head.payload_length)

    def _is_new(self, lease: Lease) -> bool:
        """Whether a message that may come twice comes for the first time; it is marked then."""
        head, window = lease.head, lease.record.window
        if window is None or window.incarnation != head.incarnation:
            self.engine.drop("stale", lease.source, lease.edge.name)
            return False
        if window.check_received(head.message_id):
            self.engine.drop("duplicate", lease.source, lease.edge.name)
            self._came_again(lease.record, head, lease.edge)
            return False
        window.mark_received(head.message_id)
        return True

    def _came_again(self, record: Peer, head: EnvelopeHead, edge: Edge | None) -> None:
        """Say that a message came, to a peer that did not hear it, and what became of it."""
        self.controls.acknowledge(record, head)
        if edge is not None and edge.answered and head.chain:
            self.engine.post.unanswered.asked_again(record.id, edge, head)

    # Decisions

    def _decide(
        self, head: EnvelopeHead, source: PeerId, record: Peer | None
    ) -> tuple[Edge, Frame | None]:
        """Return the edge of an envelope and the frame that waits for it, or raise why not."""
        engine = self.engine
        blocked, allowed = engine.gathers.blocked, engine.options.allowed_peers
        if (blocked and source in blocked) or (allowed is not None and source not in allowed):
            raise _No("blocked")
        edge = engine.artifact.edges_by_id.get(head.edge)
        window = None if record is None else record.window
        if window is not None and record is not None:
            newest = head.incarnation == window.incarnation and head.message_id > window.highest
            if not newest or edge is None or edge.retries:
                self._check_seen(head, record, window, edge)
        if head.program != engine.post.program and head.program not in engine.accepted:
            raise _No("version_skew")
        if head.control is not None:
            return self._decide_control(head, source, record)
        if edge is None or edge.name not in engine.regions:
            raise _No("unknown_edge" if engine.ending is None else "closed")
        expected_hops = bool(edge.parent) + edge.answered
        if len(head.chain) != expected_hops or len(head.fills) != len(edge.ports):
            raise _No("bad_shape", edge)
        if edge.parent:
            hop = head.chain[0]
            return edge, self._waiting(hop.frame, hop.incarnation, edge, source, hop.grant)
        if source not in self.authorized.get(edge.source_class, ()) and (
            edge.source_class not in engine.options.open_classes
        ):
            raise _No("not_authorized", edge)
        if engine.ending is not None:
            raise _No("closing", edge, tell=True)
        return edge, None

    def is_authorized(self, peer: PeerId) -> bool:
        """Tell whether a peer was authorized for any class."""
        return any(peer in members for members in self.authorized.values())

    def _is_strange(self, head: EnvelopeHead, at: _Place, source: PeerId) -> bool:
        """Whether an envelope comes in only because its class is open; raise if there is no room.

        Who is a stranger is not told to come later: it would have to be remembered.
        """
        edge, parent = at
        if parent is not None or edge is _NO_EDGE or self.is_authorized(source):
            return False
        engine, length = self.engine, head.payload_length
        record = engine.peers.records.get(source)
        if engine.strangers.full(record, length) or engine.pressure.check(
            record, length, answer=False
        ):
            raise _No("busy", edge)
        return True

    def _speaks(self, program: bytes) -> bool:
        """Whether envelopes of a program are taken, on edges that are the same."""
        return program == self.engine.post.program or program in self.engine.accepted

    def _decide_control(
        self, head: EnvelopeHead, source: PeerId, record: Peer | None
    ) -> tuple[Edge, Frame | None]:
        control = head.control
        assert control is not None  # that is why we are here
        if not isinstance(control, Failed):
            why_not = self.controls.why_not(control, record)
            if why_not:
                raise _No(why_not)
            return _NO_EDGE, None
        edge = self.engine.artifact.edges_by_id.get(control.edge)
        if edge is None:
            raise _No("unknown_edge")
        return edge, self._waiting(control.frame, control.incarnation, edge, source, control.grant)

    def _waiting(
        self, frame: int, incarnation: int, edge: Edge, source: PeerId, grant: bytes
    ) -> Frame:
        """Return the frame that waits for an answer of a peer on an edge."""
        if incarnation != self.engine.incarnation:
            raise _No("unknown_frame", edge)
        grants = self.engine.grants
        if edge.name in grants.asked and not grants.fits(grant, frame, edge.name, source):
            raise _No("bad_grant", edge)
        parent = self.engine.frames.get(frame)
        if parent is None:
            raise _No("late", edge)
        entry = parent.expected.get(edge.name, NOTHING).get(source)
        if entry is None:
            raise _No("unexpected", edge)
        if entry != OPEN or parent.state != LIVE:
            raise _No("late", edge)
        return parent

    def _check_seen(
        self, head: EnvelopeHead, record: Peer, window: Window, edge: Edge | None
    ) -> None:
        if head.incarnation < window.incarnation:
            raise _No("stale")
        if head.incarnation == window.incarnation:
            again = edge is not None and edge.retries and head.control is None
            seen = (window.check_received if again else window.check)(head.message_id)
            if seen:
                raise _No(seen, edge if again else None)
        elif self._speaks(head.program):
            self.engine.order.restarted(record)
            # It started anew, and what it was asked before is forgotten there. What it answers
            # here it was asked since then.
            # Whatever becomes of this envelope, older ones are stale from now on.
            record.window = Window(head.incarnation)
            if self.engine.gathers.gone:
                self.engine.gathers.heard(record.id, head.incarnation)
            answers = edge is not None and edge.parent and head.chain
            kept = (head.chain[0].frame, edge.name) if edge is not None and answers else None
            self.engine.gathers.peer_lost(record.id, "restarted", but=kept)

    def _refuse(
        self, no: _No, head: EnvelopeHead, source: PeerId, record: Peer | None
    ) -> Refuse | Later:
        """Report an envelope that is not taken; tell those who are to know."""
        engine, edge = self.engine, no.edge
        if no.reason == "later":
            engine.pressure.pause(record or engine.peers.of(source), head.payload_length)
            return Later("busy")
        refuse = Refuse(no.reason, head.payload_length, close=False)
        if no.reason == "version_skew" and not engine.peers.version_skew(source):
            engine.counters[no.reason] += 1
            return refuse
        engine.drop(no.reason, source, edge.name if edge else "")
        again = edge is not None and edge.retries > 0 and head.control is None
        if no.tell and edge is not None and not (again and no.reason == "busy"):
            self._branch_ends(head, edge, no.parent, source, no.reason)
        if record is None:
            return refuse
        if edge is not None and edge.ordered and record.window is not None and not head.control:
            self._will_not_come(head, edge, record, no.reason)
        if no.reason == "late" and edge is not None and edge.auto and head.control is None:
            engine.paces.late(record, edge.name, head.chain[0].frame)
        if no.reason == "stale" and record.window is not None:
            self.controls.stale(record, record.window.incarnation)
        elif again and no.reason == "duplicate" and self._speaks(head.program):
            self._came_again(record, head, edge)
        elif again and no.reason in _FOR_GOOD:
            self.controls.refuse(record, head, no.reason)
        return refuse

    def _check_room(
        self, head: EnvelopeHead, edge: Edge, parent: Frame | None, record: Peer | None
    ) -> None:
        """Raise why a payload is too large for its edge, or for what the Node can take on now."""
        engine = self.engine
        if edge.max_payload and head.payload_length > edge.max_payload:
            raise _No("too_large", edge, parent, tell=True)
        if head.control is None:
            full = engine.pressure.check(record, head.payload_length, answer=parent is not None)
            if full:
                raise _No(full, edge, parent, tell=True)

    def _buffer(self, head: EnvelopeHead, edge: Edge, parent: Frame | None) -> memoryview:
        """Return the buffer for a payload."""
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
