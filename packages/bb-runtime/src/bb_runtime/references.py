"""Envelopes that hold values instead of bytes, for hosts that run many Nodes in one process.

A Node installed with `by_reference=True` ships these; `Node.take` hands one to its receiver, which
decides about it as about any other. Whoever looks at the bytes of one, such as a network, a
journal or a digest, makes them then: they are what the Node would have written in the first place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from bb_ir.ids import PeerId
from bb_ir.references import Crossed, header_size, hop_size, own_size, payload_of
from bb_ir.values import Codecs, Encoded, encode_value
from bb_ir.wire import FLAG_RETRY, PRELUDE_SIZE, Built, EnvelopeHead, FillIn, Hop, WireLimits
from bb_runtime._frames import ReturnAddress
from bb_runtime._letters import Writer, own_to

if TYPE_CHECKING:
    from bb_runtime._grants import Grants
    from bb_runtime.artifact import Edge

__all__ = ["Referred", "Sharer"]

_NOWHERE = FillIn(-1, 0, 0, (), b"")


class Sharer:
    """Makes the envelopes of one send; what a `Writer` writes, this one shares.

    Args:
        program: First bytes of the program hash.
        edge: On which edge they go.
        incarnation: Of the Node.
        own: The hop of the frame that sends, if the edge is answered.
        crossed: The values as receivers will have them.
        limits: Of the Node.
        codecs: Codecs of the types of plugins.
        grants: Makes those of the edge's destinations, if it carries any.
    """

    __slots__ = (
        "_codecs", "_header", "_limits", "_writer", "crossed", "edge", "grants", "incarnation",
        "nowhere", "own", "payload_length", "program", "values",
    )  # fmt: skip

    def __init__(
        self,
        program: bytes,
        edge: Edge,
        *,
        incarnation: int,
        own: tuple[Hop, ...],
        crossed: Sequence[Crossed],
        limits: WireLimits,
        codecs: Codecs,
        grants: Grants | None = None,
    ) -> None:
        self.program = program
        self.edge = edge
        self.incarnation = incarnation
        self.own = own
        self.crossed = crossed
        self.values = [one.value for one in crossed]
        #: Stands for the fills of a header.
        self.nowhere = (_NOWHERE,) * len(crossed)
        self._limits = limits
        self._codecs = codecs
        self.grants = grants
        self._writer: Writer | None = None
        payload, segments, header = payload_of(crossed, limits.header // 2)
        header += header_size(program, edge.id, incarnation)
        for hop in own:
            header += hop_size(hop)
        self.payload_length = payload
        self._header = PRELUDE_SIZE + header
        if payload > limits.payload or segments > limits.segments or header > limits.header // 2:
            _ = self.writer  # says what is too much, if it is

    @property
    def writer(self) -> Writer:
        """What writes the bytes."""
        if self._writer is None:
            self._writer = Writer(
                self.program, self.edge, incarnation=self.incarnation, own=self.own,
                fills=self.fills, limits=self._limits, grants=self.grants,
            )  # fmt: skip
        return self._writer

    @property
    def fills(self) -> list[Encoded]:
        """The values as bytes."""
        ports = self.edge.ports
        return [
            encode_value(value, type_, self._codecs)
            for value, (_, type_) in zip(self.values, ports, strict=True)
        ]

    def build(
        self,
        to: PeerId | ReturnAddress,
        number: int,
        remaining_ns: int,
        flags: int = 0,
        after: int = 0,
    ) -> Referred:
        """Make the envelope of one destination."""
        hop = None
        size = self._header + own_size(number, remaining_ns, after)
        if isinstance(to, ReturnAddress):
            hop = Hop(to.frame, to.incarnation, to.peer.raw, to.grant)
            size += hop_size(hop)
        return Referred(self, to, hop, number, remaining_ns, flags, size, after)


class Referred:
    """One envelope by reference; it can be used wherever a `Built` can.

    Attributes:
        edge: Its edge.
        values: What it carries, in the order of the edge's ports.
        head_length: Bytes of its prelude and header.
        payload_length: Bytes of its payload.
    """

    __slots__ = (
        "_after", "_built", "_flags", "_hop", "_number", "_read", "_remaining_ns", "_sharer", "_to",
        "edge", "head_length", "payload_length", "values",
    )  # fmt: skip

    def __init__(  # noqa: PLR0917  # made for every envelope, by one caller
        self,
        sharer: Sharer,
        to: PeerId | ReturnAddress,
        hop: Hop | None,
        number: int,
        remaining_ns: int,
        flags: int,
        head_length: int,
        after: int = 0,
    ) -> None:
        self._sharer = sharer
        self._to = to
        self._hop = hop
        self._number = number
        self._remaining_ns = remaining_ns
        self._flags = flags
        self._after = after
        self._built: Built | None = None
        self._read: EnvelopeHead | None = None
        self.edge: Edge = sharer.edge
        self.values: Sequence[Any] = sharer.values
        self.head_length = head_length
        self.payload_length = sharer.payload_length

    @property
    def fills(self) -> Sequence[Encoded]:
        """The values as they would be encoded."""
        return self._sharer.fills

    def read(self) -> EnvelopeHead:
        """Return what its header says; its fills say only how many they are."""
        found = self._read
        if found is None:
            sharer, hop = self._sharer, self._hop
            # A return address stands before the hop of the frame that sends: nearest last.
            own = sharer.own if sharer.grants is None else own_to(sharer, self._to)
            found = self._read = EnvelopeHead(
                sharer.program, self.edge.id, sharer.incarnation, self._number, self._remaining_ns,
                0, own if hop is None else (hop, *own), sharer.nowhere, None,
                self._flags == FLAG_RETRY, self.payload_length, self._after,
            )  # fmt: skip
        return found

    # As bytes

    @property
    def built(self) -> Built:
        """The same as bytes."""
        if self._built is None:
            self._built = self._sharer.writer.build(
                self._to, self._number, self._remaining_ns, self._flags, self._after
            )
        return self._built

    @property
    def head(self) -> bytes:
        """Prelude and header."""
        return self.built.head

    @property
    def segments(self) -> tuple[memoryview, ...]:
        """Views of the values, in order, without padding."""
        return self.built.segments

    def payload_parts(self) -> Iterator[memoryview]:
        """Give the payload as buffers to be written one after the other, padding included."""
        return self.built.payload_parts()

    def write_into(self, buffer: memoryview) -> None:
        """Copy the payload into a writable buffer of bytes of exactly `payload_length`."""
        self.built.write_into(buffer)

    def to_bytes(self) -> bytes:
        """Return the whole envelope as one object."""
        return self.built.to_bytes()
