"""What a Node sends: envelopes to peers and to frames that wait, and word of failure.

The values of one send are encoded once, whatever the number of peers. Who is asked for an answer
is remembered by message id until its frame ends, so that a message that cannot be delivered fails
the right entry. A frame that took a return address and ends without answering says so to the
frame that waits, with a small `failed` envelope.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from bb_ir.ids import PeerId
from bb_ir.values import NO_CODECS, Codecs, Encoded, encode_value
from bb_ir.wire import Built, EnvelopeTemplate, Failed, Hop, WireLimits, build_envelope
from bb_runtime._frames import ENDED, Frame, ReturnAddress
from bb_runtime.errors import OpError
from bb_runtime.steps import Ship

if TYPE_CHECKING:
    from bb_runtime._engine import Engine
    from bb_runtime.artifact import Edge, Op

__all__ = ["Post"]


class Post:
    """Builds the envelopes of one Node."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.program = bytes.fromhex(engine.artifact.program)[:16]
        options = engine.options
        self._limits = WireLimits(
            header=options.max_header_bytes, payload=options.max_envelope_bytes
        )
        #: Codecs of the types of plugins that the targets name; install fills them in.
        self.codecs: Codecs = NO_CODECS
        self._messages = 0
        edges = engine.artifact.edges.values()
        self._answering = {
            edge.name: tuple(e for e in edges if e.answers == edge.name) for edge in edges
        }
        #: Message id -> (frame, reply edges, peer): whose answer fails with the message.
        self.outgoing: dict[int, tuple[Frame, tuple[Edge, ...], PeerId]] = {}

    def sender(self, op: Op) -> Callable[..., None]:
        """Return the callable of a send."""
        edge = self._engine.artifact.edges[op.edge]
        types = [type_ for _, type_ in edge.ports]
        codecs = self.codecs

        def send(frame: Frame, to: Sequence[Any], *values: Any) -> None:
            fills = [encode_value(v, t, codecs) for v, t in zip(values, types, strict=True)]
            self._send(frame, edge, to, fills)

        return send

    def _send(
        self, frame: Frame, edge: Edge, to: Sequence[PeerId | ReturnAddress], fills: list[Encoded]
    ) -> None:
        engine = self._engine
        addresses = tuple(dict.fromkeys(to))
        remaining = min(edge.deadline_ns, frame.deadline_ns - engine.now_ns)
        if remaining <= 0:
            raise OpError(
                f"nothing is left of the frame's deadline to send edge {edge.name!r}",
                fix="give the frame or the gather a longer deadline",
            )
        build = self._builder(frame, edge, fills, remaining)
        replies = self._answering[edge.name]
        peers: list[PeerId] = []
        for address in addresses:
            peer = address.peer if isinstance(address, ReturnAddress) else address
            peers.append(peer)
            if peer in engine.gathers.blocked:
                engine.drop("blocked", peer, edge.name)
                continue
            self._messages += 1
            built = build(address)
            if edge.max_payload and built.payload_length > edge.max_payload:
                raise _too_large(edge, built.payload_length)
            engine.steps.append(Ship(peer, built, self._messages))
            if replies:
                self.outgoing[self._messages] = (frame, replies, peer)
                frame.messages.append(self._messages)
        if edge.answers:
            self._paid(frame, edge, addresses)
        for reply in replies:
            engine.gathers.expect(frame, reply, tuple(peers))

    def _builder(
        self, frame: Frame, edge: Edge, fills: list[Encoded], remaining: int
    ) -> Callable[[PeerId | ReturnAddress], Built]:
        """Return what builds the envelope of one destination; what all share is encoded once."""
        incarnation = self._engine.incarnation
        own = (Hop(frame.number, incarnation, self._engine.peer.raw),) if edge.answered else ()
        if edge.answered and edge.answers:
            # The return address differs by destination and stands before our own hop.
            return lambda to: build_envelope(
                self.program, edge.id, incarnation, self._messages, remaining_ns=remaining,
                chain=(*_hop(to), *own), fills=fills, limits=self._limits,
            )  # fmt: skip
        template = EnvelopeTemplate(
            program=self.program, edge=edge.id, incarnation=incarnation, chain=own, fills=fills,
            limits=self._limits,
        )  # fmt: skip
        return lambda to: template.build(
            self._messages, remaining_ns=remaining, nearest=next(iter(_hop(to)), None)
        )

    @staticmethod
    def _paid(frame: Frame, edge: Edge, addresses: tuple[PeerId | ReturnAddress, ...]) -> None:
        """Note which promises a send kept: that of a frame on our line, or those of children."""
        line: Frame | None = frame
        while line is not None:
            if line.name == edge.answers:
                line.sent.add(edge.name)
                return
            line.paid.update((a, edge.name) for a in addresses if isinstance(a, ReturnAddress))
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
                    parent.owed.append((address, edge))
                else:
                    self.refuse(address, edge, why)
        for other, edge in frame.owed:
            if (other, edge.name) not in frame.paid:
                self.refuse(other, edge, why)

    def refuse_all(self, edge: Edge, source: PeerId, hop: Hop, reason: str) -> None:
        """Tell the frame that sent an envelope which is not taken that no answer will come."""
        for owed in self._answering[edge.name]:
            self.refuse(ReturnAddress(source, hop.frame, hop.incarnation), owed, reason)

    def refuse(self, address: ReturnAddress, edge: Edge, reason: str) -> None:
        """Ship a small `failed` envelope to a frame that waits for an answer."""
        self._messages += 1
        control = Failed(reason[:64], address.frame, address.incarnation, edge.id)
        built = build_envelope(
            self.program, 0, self._engine.incarnation, self._messages, control=control
        )
        self._engine.steps.append(Ship(address.peer, built, self._messages))

    def failed(self, ship: Ship) -> None:
        """Note that an envelope could not be delivered."""
        waiting = self.outgoing.pop(ship.message_id, None)
        if waiting is None:
            self._engine.drop("undeliverable", ship.to, "")
            return
        frame, replies, peer = waiting
        for reply in replies:
            self._engine.gathers.answer_failed(frame, reply.name, peer, "undeliverable")
        self._engine.tidy()


def _hop(to: PeerId | ReturnAddress) -> tuple[Hop, ...]:
    return (Hop(to.frame, to.incarnation, to.peer.raw),) if isinstance(to, ReturnAddress) else ()


def _too_large(edge: Edge, found: int) -> OpError:
    limit = edge.max_payload
    return OpError(
        f"an envelope of edge {edge.name!r} has a payload of {found:,} bytes",
        expected=f"at most {limit:,} bytes, as the program was compiled; receivers refuse more",
        fix=f"send less, or say how much it may be: g.net_out({edge.name!r}, ..., max_bytes=...)",
    )
