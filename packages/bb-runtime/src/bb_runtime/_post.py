"""What a Node sends: envelopes to peers and to frames that wait, and word of failure.

The values of one send are encoded once, whatever the number of peers. Who is asked for an answer
is remembered by message id until its frame ends, so that a message that cannot be delivered fails
the right entry. A frame that took a return address and ends without answering says so to the
frame that waits, with a small `failed` envelope.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from bb_ir.ids import PeerId
from bb_ir.references import Crosser, crosser
from bb_ir.values import NO_CODECS, Codecs, encode_value
from bb_ir.wire import Control, Failed, Hop, WireLimits, build_envelope
from bb_runtime._frames import ENDED, Frame, ReturnAddress
from bb_runtime._letters import Letter, Writer
from bb_runtime._outbound import Outbound
from bb_runtime._peers import Peer
from bb_runtime._retries import Retries, Retry
from bb_runtime._unanswered import Unanswered, Word
from bb_runtime.errors import OpError
from bb_runtime.references import Sharer
from bb_runtime.steps import Ship

if TYPE_CHECKING:
    from bb_runtime._engine import Engine
    from bb_runtime.artifact import Edge, Op

__all__ = ["Post"]


class Post:
    """Builds the envelopes of one Node."""

    __slots__ = (
        "_engine", "answering", "by_reference", "codecs", "limits", "messages", "outbound",
        "outgoing", "program", "retries", "unanswered",
    )  # fmt: skip

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.program = bytes.fromhex(engine.artifact.program)[:16]
        options = engine.options
        self.limits = WireLimits(
            header=options.max_header_bytes, payload=options.max_envelope_bytes
        )
        #: Codecs of the types of plugins that the targets name; install fills them in.
        self.codecs: Codecs = NO_CODECS
        #: Whether values are sent as they are, to be handed on in this process.
        self.by_reference = False
        #: Number of the last message.
        self.messages = 0
        edges = engine.artifact.edges.values()
        self.answering = {
            edge.name: tuple(e for e in edges if e.answers == edge.name) for edge in edges
        }
        self.outbound = Outbound(engine)
        self.retries = Retries(engine)
        self.unanswered = Unanswered(engine)
        #: Message id -> (frame, reply edges, peer): whose answer fails with the message.
        self.outgoing: dict[int, tuple[Frame, tuple[Edge, ...], PeerId]] = {}

    def sender(self, op: Op) -> Callable[..., None]:
        """Return the callable of a send."""
        edge = self._engine.artifact.edges[op.edge]
        return self._sharing(edge) if self.by_reference else self._sending(edge)

    def _sending(self, edge: Edge) -> Callable[..., None]:
        types = [type_ for _, type_ in edge.ports]
        codecs, limits = self.codecs, self.limits
        program, engine = self.program, self._engine
        grants = engine.grants if edge.granted else None

        def send(frame: Frame, to: Sequence[Any], *values: Any) -> None:
            fills = [encode_value(v, t, codecs) for v, t in zip(values, types, strict=True)]
            writer = Writer(
                program, edge, incarnation=engine.incarnation, own=self._own(frame, edge),
                fills=fills, limits=limits, grants=grants,
            )  # fmt: skip
            self._send(frame, edge, to, writer)

        return send

    def _sharing(self, edge: Edge) -> Callable[..., None]:
        engine, crossers = self._engine, self._crossers(edge)
        grants = engine.grants if edge.granted else None

        def share(frame: Frame, to: Sequence[Any], *values: Any) -> None:
            crossed = [cross(value) for cross, value in zip(crossers, values, strict=True)]
            sharer = Sharer(
                self.program, edge, incarnation=engine.incarnation, own=self._own(frame, edge),
                crossed=crossed, limits=self.limits, codecs=self.codecs, grants=grants,
            )  # fmt: skip
            self._send(frame, edge, to, sharer)

        return share

    def _crossers(self, edge: Edge) -> list[Crosser]:
        """Return what takes the values of an edge over; of plain types one for all Nodes."""
        if self.codecs:
            return [crosser(type_, self.codecs) for _, type_ in edge.ports]
        known = self._engine.artifact.programs
        key = "crossers", edge.name
        found = known.get(key)
        if found is None:
            found = known[key] = [crosser(type_) for _, type_ in edge.ports]
        return cast("list[Crosser]", found)

    def _own(self, frame: Frame, edge: Edge) -> tuple[Hop, ...]:
        """Return the hop that answers on an edge come back to, if there are any."""
        engine = self._engine
        return engine.grants.own(edge, frame.number, engine.incarnation, engine.peer)

    def _send(
        self,
        frame: Frame,
        edge: Edge,
        to: Sequence[PeerId | ReturnAddress],
        writer: Writer | Sharer,
    ) -> None:
        engine = self._engine
        now = engine.now_ns
        addresses = to if len(to) == 1 else tuple(dict.fromkeys(to))
        remaining = min(edge.deadline_ns, frame.deadline_ns - now)
        if remaining <= 0:
            raise OpError(
                f"nothing is left of the frame's deadline to send edge {edge.name!r}",
                fix="give the frame or the gather a longer deadline",
            )
        replies = self.answering[edge.name]
        messages: list[int] = []
        if replies:
            messages = frame.messages = [*frame.messages]
        peers: list[PeerId] = []
        refused: list[PeerId] = []
        flow = engine.metrics.flow(edge.name)
        before = flow[1]
        table, options, gathers = engine.peers, engine.options, engine.gathers
        records, most = table.records, options.max_unsent_bytes
        kept = edge.retries > 0 or most > 0 or edge.ordered
        barred = gathers.blocked or gathers.gone or options.allowed_peers is not None
        for address in addresses:
            peer = address.peer if type(address) is ReturnAddress else cast("PeerId", address)
            if replies:
                peers.append(peer)
            if barred and self._is_barred(peer, edge):
                continue
            record = records.get(peer) or table.of(peer)
            self.messages += 1
            after = engine.order.before(record, edge) if edge.ordered else 0
            built = writer.build(address, self.messages, remaining, 0, after)
            if edge.max_payload and built.payload_length > edge.max_payload:
                raise _too_large(edge, built.payload_length)
            size = built.head_length + built.payload_length
            if -1 < record.asked_ns < now and table.suspected(record):
                table.failed(record)
            if kept or now < record.quiet_ns or record.waiting:
                until = now + remaining
                letter = Letter(writer, address, self.messages, frame, replies, until, size)
                if not self.outbound.post(record, letter, built):
                    refused.append(peer)
            else:
                record.bytes_out += size
                engine.steps.append(Ship(peer, built, self.messages))
            flow[0] += 1
            flow[1] += size
            if replies:
                self.outgoing[self.messages] = (frame, replies, peer)
                messages.append(self.messages)
                if record.asked_ns < 0 and not record.waiting:
                    record.asked_ns = now
        engine.handed += flow[1] - before
        if edge.answers:
            self._paid(frame, edge, addresses)
        for reply in replies:
            if frame.asked_at is None:
                frame.asked_at = {}
            frame.asked_at[reply.name] = now
            engine.gathers.expect(frame, reply, tuple(peers))
            for peer in refused:
                engine.gathers.answer_failed(frame, reply.name, peer, "undeliverable")

    def _is_barred(self, peer: PeerId, edge: Edge) -> bool:
        """Whether nothing may be sent to a peer, which is told then."""
        engine = self._engine
        allowed = engine.options.allowed_peers
        if peer in engine.gathers.blocked or (allowed is not None and peer not in allowed):
            engine.drop("blocked", peer, edge.name)
            return True
        if peer in engine.gathers.gone:
            engine.drop("left", peer, edge.name)
            return True
        return False

    @staticmethod
    def _paid(frame: Frame, edge: Edge, addresses: Sequence[PeerId | ReturnAddress]) -> None:
        """Note which promises a send kept: that of a frame on our line, or those of children.

        One to answer several times is kept with the last of them.
        """
        line: Frame | None = frame
        while line is not None:
            if line.name == edge.answers:
                if edge.replies == 1 or line.count_part(None, edge.name) >= edge.replies:
                    line.sent |= {edge.name}
                return
            line.paid |= {
                (a, edge.name)
                for a in addresses
                if isinstance(a, ReturnAddress)
                and (edge.replies == 1 or line.count_part(a, edge.name) >= edge.replies)
            }
            line = line.parent

    def report_unsent(self, frame: Frame, how: str, reason: str) -> None:
        """Tell those who wait for a frame that ends which promised answers will not come.

        What the parent promised, which may send it after a gather, is handed on to it.
        """
        why = reason or ("unanswered" if how == "done" else how)
        address, parent = frame.return_address, frame.parent
        if address is not None:
            for edge, own in frame.bound.program.owes:
                if edge.name in frame.sent:
                    continue
                if not own and how == "done" and parent is not None and parent.state != ENDED:
                    parent.owed += ((address, edge),)
                else:
                    self.refuse(address, edge, why)
        for other, edge in frame.owed:
            if (other, edge.name) not in frame.paid:
                self.refuse(other, edge, why)

    def refuse_all(self, edge: Edge, source: PeerId, hop: Hop, reason: str) -> None:
        """Tell the frame that sent an envelope which is not taken that no answer will come."""
        for owed in self.answering[edge.name]:
            self.refuse(ReturnAddress(source, hop.frame, hop.incarnation, hop.grant), owed, reason)

    def refuse(self, address: ReturnAddress, edge: Edge, reason: str) -> None:
        """Ship a small `failed` envelope to a frame that waits for an answer."""
        if address.peer in self._engine.gathers.gone:
            return
        control = Failed(reason[:64], address.frame, address.incarnation, edge.id, address.grant)
        number = self.control(address.peer, control)
        if edge.retries:
            self.unanswered.watch(address.peer, edge, control, number)

    def control(self, peer: PeerId, control: Control) -> int:
        """Ship a message of engines to engines; nothing holds it up, and nobody answers it.

        Returns:
            Its message id.
        """
        self.messages += 1
        self.word(peer, control, self.messages)
        return self.messages

    def word(self, peer: PeerId, control: Control, number: int, flags: int = 0) -> None:
        """Ship such a message under an id."""
        built = build_envelope(
            self.program, 0, self._engine.incarnation, number, control=control, flags=flags
        )
        self._engine.steps.append(Ship(peer, built, number))

    def ring(self, what: object) -> None:
        """Do what an alarm was set for."""
        if isinstance(what, Retry):
            self.retries.due(what)
        elif isinstance(what, Word):
            self.unanswered.due(what)
        elif isinstance(what, Peer):
            self.outbound.flush(what)

    def sent(self, ship: Ship) -> bool:
        """Note that the host does not hold an envelope any more; tells whether others go now."""
        engine = self._engine
        if not engine.options.max_unsent_bytes:
            return False
        record = engine.peers.records.get(ship.to)
        if record is None or not record.unsent:
            return False
        before = len(engine.steps)
        self.outbound.sent(record, ship.message_id)
        engine.tidy()
        return len(engine.steps) > before

    def failed(self, ship: Ship) -> None:
        """Note that an envelope could not be delivered."""
        self.sent(ship)
        peers = self._engine.peers
        record = peers.records.get(ship.to)
        if record is not None:
            peers.failed(record)
            if ship.message_id in record.retrying:
                self._engine.drop("undeliverable", ship.to, "")
                return  # it is sent again
            self._engine.order.lost(record, ship.message_id)
        waiting = self.outgoing.pop(ship.message_id, None)
        if waiting is None:
            self._engine.drop("undeliverable", ship.to, "")
            return
        frame, replies, peer = waiting
        for reply in replies:
            self._engine.gathers.answer_failed(frame, reply.name, peer, "undeliverable")
        self._engine.tidy()


def _too_large(edge: Edge, found: int) -> OpError:
    limit = edge.max_payload
    return OpError(
        f"an envelope of edge {edge.name!r} has a payload of {found:,} bytes",
        expected=f"at most {limit:,} bytes, as the program was compiled; receivers refuse more",
        fix=f"send less, or say how much it may be: g.net_out({edge.name!r}, ..., max_bytes=...)",
    )
