"""Envelopes that are not built yet, or that are built again: what they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bb_ir.ids import PeerId
from bb_ir.values import Encoded
from bb_ir.wire import Built, EnvelopeTemplate, Hop, WireLimits, build_envelope
from bb_runtime._frames import ENDED, OPEN, Frame, ReturnAddress

if TYPE_CHECKING:
    from bb_runtime._grants import Grants
    from bb_runtime.artifact import Edge
    from bb_runtime.references import Sharer

__all__ = ["Letter", "Writer", "own_to"]


class Writer:
    """Builds the envelopes of one send; what all its destinations share is encoded once.

    Args:
        program: First bytes of the program hash.
        edge: On which edge they go.
        incarnation: Of the Node.
        own: The hop of the frame that sends, if the edge is answered.
        fills: The values.
        limits: Of the Node.
        grants: Makes those of the edge's destinations, if it carries any.
    """

    __slots__ = ("edge", "fills", "grants", "incarnation", "limits", "own", "program", "template")

    def __init__(
        self,
        program: bytes,
        edge: Edge,
        *,
        incarnation: int,
        own: tuple[Hop, ...],
        fills: Sequence[Encoded],
        limits: WireLimits,
        grants: Grants | None = None,
    ) -> None:
        self.program = program
        self.edge = edge
        self.incarnation = incarnation
        self.own = own
        self.fills = fills
        self.limits = limits
        self.grants = grants
        self.template: EnvelopeTemplate | None = None
        if not (edge.answered and edge.answers) and grants is None:
            self.template = EnvelopeTemplate(
                program=program, edge=edge.id, incarnation=incarnation, chain=own, fills=fills,
                limits=limits,
            )  # fmt: skip

    def build(
        self,
        to: PeerId | ReturnAddress,
        number: int,
        remaining_ns: int,
        flags: int = 0,
        after: int = 0,
    ) -> Built:
        """Build the envelope of one destination."""
        hop = None
        if isinstance(to, ReturnAddress):
            hop = Hop(to.frame, to.incarnation, to.peer.raw, to.grant)
        if self.template is not None:
            return self.template.build(
                number, remaining_ns=remaining_ns, nearest=hop, flags=flags, after=after
            )
        # The return address differs by destination and stands before our own hop.
        own = own_to(self, to)
        chain = own if hop is None else (hop, *own)
        return build_envelope(
            self.program, self.edge.id, self.incarnation, number, remaining_ns=remaining_ns,
            chain=chain, fills=self.fills, flags=flags, after=after, limits=self.limits,
        )  # fmt: skip


def own_to(writer: Writer | Sharer, to: PeerId | ReturnAddress) -> tuple[Hop, ...]:
    """Return the hop of the frame that sends, as a destination gets it."""
    if writer.grants is None:
        return writer.own
    peer = to.peer if isinstance(to, ReturnAddress) else to
    return writer.grants.sign(writer.own, writer.edge, peer)


@dataclass(slots=True, eq=False)
class Letter:
    """One envelope to one peer that waits, or that may have to be sent again.

    Attributes:
        number: Its message id.
        frame: The frame that waits for it, or for an answer to it.
        replies: The edges of the answers.
        until_ns: When it is not wanted any more.
        size: Bytes, head included.
        after: Message id of what its receiver is to open first, 0 for none; known once it goes.
    """

    writer: Writer | Sharer
    to: PeerId | ReturnAddress
    number: int
    frame: Frame | None
    replies: tuple[Edge, ...]
    until_ns: int
    size: int
    after: int = 0

    @property
    def peer(self) -> PeerId:
        """Whom it is for."""
        return self.to.peer if isinstance(self.to, ReturnAddress) else self.to

    @property
    def edge(self) -> Edge:
        """On which edge it is sent."""
        return self.writer.edge

    @property
    def wanted(self) -> bool:
        """Whether it still makes sense: of a question, whether somebody waits for the answer."""
        if not self.replies:
            return True
        frame = self.frame
        if frame is None or frame.state == ENDED:
            return False
        return any(frame.expected.get(e.name, {}).get(self.peer) == OPEN for e in self.replies)

    def state(self, now_ns: int) -> dict[str, Any]:
        """Return it as plain data."""
        writer = self.writer
        return {
            "edge": self.edge.name,
            "to": tuple(self.to) if isinstance(self.to, ReturnAddress) else self.to,
            "number": self.number,
            "frame": None if self.frame is None else self.frame.number,
            "left_ns": self.until_ns - now_ns,
            "size": self.size,
            "after": self.after,
            "incarnation": writer.incarnation,
            "own": [tuple(hop) for hop in writer.own],
            "fills": [(bytes(data), codec, tuple(shape)) for data, codec, shape in writer.fills],
        }
