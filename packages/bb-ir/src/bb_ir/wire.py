"""The frame around one message: prelude, header and payload of an envelope, version 1.

An envelope is 32 bytes of prelude, a protobuf header and a payload of raw segments. The prelude
is read and checked alone, before anything is allocated for what it announces; the header is
checked against its CRC before it is parsed; the payload is never looked at here.

    bytes 0-3    magic `BBE1`           12-15  count of segments
    4-5          version, 1             16-23  length of the payload
    6-7          flags                  24-27  CRC-32 of the header
    8-11         length of the header   28-31  0

Flags: bit 0 control, bit 1 retry; bits 2-7 are ignored when unknown, bits 8-15 refused.

A fill with a length is a segment of the payload; segments stand in the order of their fills, each
padded with zeros to 64 bytes, and nothing stands between or after them. A fill without a length
carries its value inline. The header is written as a part that all receivers share, followed by
what differs (message id, what is left of the deadline, nearest hop): protobuf reads concatenated
messages as one.

This module does no I/O, keeps no state and decides nothing about programs, edges or peers.
Whatever it reads, it gives a head or raises `EnvelopeRefused`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Final, NamedTuple, NoReturn

from google.protobuf.message import DecodeError

from bb_ir._framing import (
    ALIGNMENT,
    DEFAULT_LIMITS,
    FLAG_CONTROL,
    FLAG_RETRY,
    GRANT_BYTES,
    GRANT_SIZE,
    INLINE_LIMIT,
    MAGIC,
    MAX_CHAIN,
    MAX_DIMS,
    MAX_FILLS,
    MAX_PEER,
    MAX_REASON,
    PRELUDE,
    PRELUDE_SIZE,
    PROGRAM_BYTES,
    VERSION,
    Ack,
    Control,
    EnvelopeHead,
    EnvelopeRefused,
    Failed,
    FillIn,
    Hop,
    Later,
    Leaving,
    Prelude,
    Reason,
    Refused,
    Stale,
    WireLimits,
    outside,
    pack_prelude,
    padded,
    read_prelude,
)
from bb_ir._proto.core_pb2 import Envelope
from bb_ir.errors import WireError
from bb_ir.values import Encoded

__all__ = [
    "ALIGNMENT",
    "DEFAULT_LIMITS",
    "FLAG_CONTROL",
    "FLAG_RETRY",
    "GRANT_SIZE",
    "INLINE_LIMIT",
    "MAGIC",
    "MAX_CHAIN",
    "MAX_DIMS",
    "MAX_FILLS",
    "MAX_PEER",
    "PRELUDE_SIZE",
    "VERSION",
    "Ack",
    "Built",
    "Control",
    "EnvelopeHead",
    "EnvelopeRefused",
    "EnvelopeTemplate",
    "Failed",
    "FillIn",
    "Hop",
    "Later",
    "Leaving",
    "Prelude",
    "Reason",
    "Refused",
    "Stale",
    "WireLimits",
    "build_envelope",
    "fill_data",
    "pack_prelude",
    "read_header",
    "read_prelude",
    "split_payload",
]

_PAD: Final = memoryview(bytes(ALIGNMENT))
_CONTROLS: Final[dict[str, type[Control]]] = {
    "ack": Ack, "stale": Stale, "later": Later, "refused": Refused, "failed": Failed,
    "leaving": Leaving,
}  # fmt: skip
_CONTROL_FIELDS: Final = {kind: name for name, kind in _CONTROLS.items()}


# --- writing ---------------------------------------------------------------------------------


class Built(NamedTuple):
    """An envelope that is ready to be sent; its segments are views on the values themselves.

    Attributes:
        head: Prelude and header.
        segments: Read-only views of bytes, in order, without padding.
        payload_length: Bytes of the payload, padding included.
    """

    head: bytes
    segments: tuple[memoryview, ...]
    payload_length: int

    @property
    def head_length(self) -> int:
        """Bytes of prelude and header."""
        return len(self.head)

    def payload_parts(self) -> Iterator[memoryview]:
        """Give the payload as buffers to be written one after the other, padding included."""
        for segment in self.segments:
            yield segment
            if pad := -len(segment) % ALIGNMENT:
                yield _PAD[:pad]

    def write_into(self, buffer: memoryview) -> None:
        """Copy the payload into a writable buffer of bytes of exactly `payload_length`."""
        if buffer.nbytes != self.payload_length:
            raise WireError(
                f"The buffer has {buffer.nbytes} bytes for a payload of {self.payload_length}",
                fix="Lend a buffer of `payload_length` bytes.",
            )
        at = 0
        for part in self.payload_parts():
            end = at + len(part)
            buffer[at:end] = part
            at = end

    def to_bytes(self) -> bytes:
        """Return the whole envelope as one object: head, segments and padding."""
        return b"".join((self.head, *self.payload_parts()))


class EnvelopeTemplate:
    """One message to many receivers: what they share is serialized once.

    The arguments are those of `build_envelope`.

    Raises:
        WireError: The message does not fit the format or the limits.
    """

    __slots__ = (
        "_crc", "_flags", "_hops", "_limits", "_payload_length", "_segments", "_shared"
    )  # fmt: skip

    def __init__(
        self,
        *,
        program: bytes,
        edge: int,
        incarnation: int,
        in_reply_to: int = 0,
        chain: Sequence[Hop] = (),
        fills: Sequence[Encoded] = (),
        control: Control | None = None,
        limits: WireLimits = DEFAULT_LIMITS,
    ) -> None:
        if len(program) != PROGRAM_BYTES:
            raise WireError(f"The program id has {len(program)} bytes", expected="16 bytes")
        message = Envelope()
        try:
            message.program = program
            message.edge = edge
            message.incarnation = incarnation
            if in_reply_to:
                message.in_reply_to = in_reply_to
            for hop in chain:
                _add_hop(message, hop)
            segments, payload_length = _add_fills(message, fills, limits.header // 2)
            if control is not None:
                _add_control(message, control)
        except (ValueError, TypeError) as error:  # protobuf says which number it is
            raise outside(error) from error
        self._flags = 0 if control is None else FLAG_CONTROL
        self._hops = len(chain)
        self._limits = limits
        self._segments = segments
        self._payload_length = payload_length
        self._shared = message.SerializeToString()
        self._crc = zlib.crc32(self._shared)
        if control is not None and (chain or fills):
            raise WireError("A control message has a chain or fills", fix="Leave them out.")
        if self._hops > MAX_CHAIN:
            raise _too_much("chain", self._hops, MAX_CHAIN)
        if len(fills) > MAX_FILLS:
            raise _too_much("fills", len(fills), MAX_FILLS)
        if len(segments) > limits.segments:
            raise _too_much("segments", len(segments), limits.segments)
        if payload_length > limits.payload:
            raise _too_much("payload", payload_length, limits.payload)

    def build(
        self,
        message_id: int,
        *,
        remaining_ns: int | None = None,
        nearest: Hop | None = None,
        flags: int = 0,
        after: int = 0,
    ) -> Built:
        """Build the envelope for one receiver.

        Args:
            message_id: Unique within the incarnation.
            remaining_ns: What is left of the deadline, at least 1; `None` for no deadline.
            nearest: A hop after the shared ones, for a grant that differs by receiver.
            flags: `FLAG_RETRY` or 0; the control flag is set where it belongs.
            after: Id of the message on this edge that the receiver is to open first, 0 for none.

        Raises:
            WireError: A number is out of range or the header becomes too long.
        """
        own = Envelope()
        try:
            own.message_id = message_id
            if remaining_ns is not None:
                own.remaining_ns = remaining_ns
            if after:
                own.after = after
            if nearest is not None:
                _add_hop(own, nearest)
        except (ValueError, TypeError) as error:
            raise outside(error) from error
        if remaining_ns == 0:
            raise WireError("Nothing is left of the deadline", fix="Do not send the message.")
        if after and after >= message_id:
            raise WireError(
                f"Message {message_id} is to come after message {after}",
                expected="one that was sent before",
            )
        if flags and flags != FLAG_RETRY:
            raise WireError(f"The flags are {flags:#x}", expected="0 or FLAG_RETRY")
        if nearest is not None and (self._hops >= MAX_CHAIN or self._flags):
            raise WireError(
                "A hop is added to a full chain or a control message",
                expected=f"none in control, at most {MAX_CHAIN} elsewhere",
            )
        tail = own.SerializeToString()
        size = len(self._shared) + len(tail)
        if size > self._limits.header:
            raise _too_much("header", size, self._limits.header)
        crc = zlib.crc32(tail, self._crc)
        segments, length = self._segments, self._payload_length
        # All numbers are within their fields: they were held against the limits.
        head = PRELUDE.pack(
            MAGIC, VERSION, self._flags | flags, size, len(segments), length, crc, 0
        )
        return Built(head + self._shared + tail, segments, length)


def build_envelope(
    program: bytes,
    edge: int,
    incarnation: int,
    message_id: int,
    *,
    remaining_ns: int | None = None,
    in_reply_to: int = 0,
    chain: Sequence[Hop] = (),
    fills: Sequence[Encoded] = (),
    control: Control | None = None,
    flags: int = 0,
    after: int = 0,
    limits: WireLimits = DEFAULT_LIMITS,
) -> Built:
    """Build one envelope; values above 4 KiB are referred to and not copied.

    Args:
        program: First 16 bytes of the program hash.
        edge: Id of the edge, an unsigned 64-bit number; 0 for control messages without one.
        incarnation: Of the sender.
        message_id: Unique within the incarnation.
        remaining_ns: What is left of the deadline, at least 1; `None` for no deadline.
        in_reply_to: A message id, 0 for none.
        chain: Who waits for replies, nearest last.
        fills: One encoded value per port of the edge, in order.
        control: Makes it a control message, which has neither chain nor fills.
        flags: `FLAG_RETRY` or 0; the control flag is set where it belongs.
        after: Id of the message on this edge that the receiver is to open first, 0 for none.
        limits: What the receiver is known to take.

    Raises:
        WireError: The message does not fit the format or the limits.
    """
    template = EnvelopeTemplate(
        program=program,
        edge=edge,
        incarnation=incarnation,
        in_reply_to=in_reply_to,
        chain=chain,
        fills=fills,
        control=control,
        limits=limits,
    )
    return template.build(message_id, remaining_ns=remaining_ns, flags=flags, after=after)


def _add_hop(message: Envelope, hop: Hop) -> None:
    frame, incarnation, peer, grant = hop
    if len(peer) > MAX_PEER or len(grant) not in GRANT_BYTES:
        raise WireError(
            f"A hop has a peer of {len(peer)} bytes and a grant of {len(grant)}",
            expected="at most 64 bytes, and 0 or 16",
        )
    added = message.chain.add()
    added.frame = frame
    added.incarnation = incarnation
    added.peer = peer
    if grant:
        added.grant = grant


def _add_fills(
    message: Envelope, fills: Sequence[Encoded], budget: int
) -> tuple[tuple[memoryview, ...], int]:
    """Add all fills, at most `budget` bytes of them inline; return segments and payload length."""
    segments: list[memoryview] = []
    payload_length = 0
    add = message.fills.add
    for data, codec, shape in fills:
        size = data.nbytes if isinstance(data, memoryview) else len(data)
        added = add()
        small = bytes(data) if size <= INLINE_LIMIT else None
        if small is not None and size <= budget:
            budget -= size
            added.inline = small
        else:
            if segments:
                added.segment = len(segments)
            added.length = size
            segments.append(_bytes_view(data if small is None else small))
            payload_length += padded(size)
        if codec:
            added.codec = codec
        if shape:
            if len(shape) > MAX_DIMS:
                raise _too_much("shape", len(shape), MAX_DIMS)
            added.shape.extend(shape)
    return tuple(segments), payload_length


def _bytes_view(data: bytes | memoryview) -> memoryview:
    view = data if isinstance(data, memoryview) else memoryview(data)
    if view.format != "B" or view.ndim != 1:
        view = view.cast("B")
    return view.toreadonly()


def _add_control(message: Envelope, control: Control) -> None:
    fields = asdict(control)
    if len(fields.get("reason", "")) > MAX_REASON:
        raise _too_much("reason", len(fields["reason"]), MAX_REASON)
    if len(fields.get("grant", b"")) not in GRANT_BYTES:
        raise WireError(f"A grant has {len(fields['grant'])} bytes", expected="0 or 16")
    target = getattr(message, _CONTROL_FIELDS[type(control)])
    target.SetInParent()
    for name, value in fields.items():
        setattr(target, name, value)


def _too_much(what: str, found: int, limit: int) -> WireError:
    return WireError(
        f"The {what} of an envelope comes to {found}",
        expected=f"at most {limit}",
        fix="Send less in one message, or raise the limit of both Nodes.",
    )


# --- reading ---------------------------------------------------------------------------------


def read_header(
    prelude: Prelude, header: bytes | bytearray | memoryview, limits: WireLimits
) -> EnvelopeHead:
    """Check a header against its prelude, then read it.

    Args:
        prelude: What `read_prelude` gave.
        header: Exactly the `header_length` bytes after it.
        limits: The same limits.

    Raises:
        EnvelopeRefused: The header is damaged, breaks a limit or does not fit its prelude.
    """
    if len(header) != prelude.header_length:
        raise EnvelopeRefused(
            "truncated", f"There are {len(header)} of {prelude.header_length} bytes of header"
        )
    if len(header) > limits.header:
        _refuse(prelude, "header_too_long", f"A header has {len(header)} bytes")
    if zlib.crc32(header) != prelude.header_crc:
        _refuse(prelude, "bad_crc", "A header does not match its CRC-32")
    try:
        message = Envelope.FromString(bytes(header))
    except DecodeError:
        _refuse(prelude, "bad_header", "A header is no protobuf message of this schema")
    program = message.program
    if len(program) != PROGRAM_BYTES:
        _refuse(prelude, "bad_program", f"A program id has {len(program)} bytes instead of 16")
    remaining_ns = message.remaining_ns if message.HasField("remaining_ns") else None
    if remaining_ns == 0:
        _refuse(prelude, "bad_deadline", "Nothing is left of the deadline")
    if message.after and message.after >= message.message_id:
        _refuse(prelude, "bad_header", "A message comes after one that was sent later")
    return EnvelopeHead(
        program,
        message.edge,
        message.incarnation,
        message.message_id,
        remaining_ns,
        message.in_reply_to,
        _read_chain(prelude, message),
        _read_fills(prelude, message),
        _read_control(prelude, message),
        bool(prelude.flags & FLAG_RETRY),
        prelude.payload_length,
        message.after,
    )


def split_payload(head: EnvelopeHead, payload: memoryview) -> list[memoryview]:
    """Return one read-only view of bytes per segment, in order; inline fills are not among them.

    Raises:
        EnvelopeRefused: The payload is not as long as the header says.
    """
    pairs = zip(head.fills, fill_data(head, payload), strict=True)
    return [view for fill, view in pairs if fill.segment >= 0]


def fill_data(head: EnvelopeHead, payload: memoryview) -> list[memoryview]:
    """Return one read-only view of bytes per fill, in order, whether inline or a segment.

    Raises:
        EnvelopeRefused: The payload is not as long as the header says.
    """
    if payload.nbytes != head.payload_length:
        raise EnvelopeRefused(
            "truncated", f"There are {payload.nbytes} of {head.payload_length} bytes of payload"
        )
    view = _bytes_view(payload)
    views: list[memoryview] = []
    at = 0
    for segment, length, _, _, inline in head.fills:
        if segment < 0:
            views.append(memoryview(inline))
            continue
        views.append(view[at : at + length])
        at += padded(length)
    return views


def _read_chain(prelude: Prelude, message: Envelope) -> tuple[Hop, ...]:
    chain = message.chain[:]  # a slice is three times as fast as iterating over the container
    if len(chain) > MAX_CHAIN:
        _refuse(prelude, "bad_hop", f"A chain has {len(chain)} hops instead of at most {MAX_CHAIN}")
    hops: list[Hop] = []
    for hop in chain:
        peer, grant = hop.peer, hop.grant
        if len(peer) > MAX_PEER or len(grant) not in GRANT_BYTES:
            _refuse(
                prelude, "bad_hop", f"A hop's peer has {len(peer)} bytes, its grant {len(grant)}"
            )
        hops.append(Hop(hop.frame, hop.incarnation, peer, grant))
    return tuple(hops)


def _read_fills(prelude: Prelude, message: Envelope) -> tuple[FillIn, ...]:
    found = message.fills[:]
    if len(found) > MAX_FILLS:
        _refuse(prelude, "bad_fill", f"There are {len(found)} fills instead of at most {MAX_FILLS}")
    fills: list[FillIn] = []
    segments = payload = 0
    for fill in found:
        length, inline, shape = fill.length, fill.inline, tuple(fill.shape[:])
        if len(shape) > MAX_DIMS or len(inline) > INLINE_LIMIT:
            _refuse(
                prelude, "bad_fill", f"A fill has {len(shape)} dims and {len(inline)} bytes inline"
            )
        if fill.segment != (segments if length else 0) or (length and inline):
            _refuse(prelude, "bad_fill", f"Fill {len(fills)} is neither inline nor next segment")
        if length:
            fills.append(FillIn(segments, length, fill.codec, shape, b""))
            segments += 1
            payload += padded(length)
        else:
            fills.append(FillIn(-1, len(inline), fill.codec, shape, inline))
    if segments != prelude.segments or payload != prelude.payload_length:
        _refuse(
            prelude,
            "bad_segments",
            f"The fills add up to {payload} bytes in {segments} segments, where the prelude "
            f"announces {prelude.payload_length} in {prelude.segments}",
        )
    return tuple(fills)


def _read_control(prelude: Prelude, message: Envelope) -> Control | None:
    name = message.WhichOneof("control")
    if (name is None) == bool(prelude.flags & FLAG_CONTROL):
        _refuse(prelude, "bad_control", "Flag and header disagree on whether this is control")
    if name is None:
        return None
    if message.chain or message.fills:
        _refuse(prelude, "bad_control", "A control message has a chain or fills")
    found = getattr(message, name)
    fields = {field.name: getattr(found, field.name) for field in found.DESCRIPTOR.fields}
    if len(fields.get("reason", "")) > MAX_REASON:
        _refuse(prelude, "bad_control", f"A reason has {len(fields['reason'])} characters")
    if len(fields.get("grant", b"")) not in GRANT_BYTES:
        _refuse(prelude, "bad_control", f"A grant has {len(fields['grant'])} bytes")
    return _CONTROLS[name](**fields)


def _refuse(prelude: Prelude, reason: Reason, found: str) -> NoReturn:
    raise EnvelopeRefused(reason, found, skip=prelude.payload_length)
