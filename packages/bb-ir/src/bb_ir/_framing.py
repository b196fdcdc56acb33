"""What both directions of the wire share: prelude, limits, messages and the refusal.

`bb_ir.wire` is the public side of this module and explains the format. Nothing here knows
protobuf: a prelude is judged before a parser sees a byte.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from bb_ir.errors import WireError

__all__ = [
    "ALIGNMENT", "DEFAULT_LIMITS", "FLAG_CONTROL", "FLAG_RETRY", "GRANT_BYTES", "GRANT_SIZE",
    "INLINE_LIMIT", "MAGIC", "MAX_CHAIN", "MAX_DIMS", "MAX_FILLS", "MAX_PEER", "MAX_REASON",
    "PRELUDE", "PRELUDE_SIZE", "PROGRAM_BYTES", "VERSION", "Ack", "Control", "EnvelopeHead",
    "EnvelopeRefused", "Failed", "FillIn", "Hop", "Later", "Leaving", "Prelude", "Reason",
    "Refused", "Stale", "WireLimits", "outside", "pack_prelude", "padded", "read_prelude",
]  # fmt: skip

MAGIC: Final = b"BBE1"
VERSION: Final = 1
PRELUDE_SIZE: Final = 32
#: The message is a control message: no fills, no payload, never answered.
FLAG_CONTROL: Final = 1
#: The message was sent before under the same id.
FLAG_RETRY: Final = 2
#: Segments start at multiples of this many bytes.
ALIGNMENT: Final = 64
#: Longest value that stands in the header; it is copied, so it never keeps a larger one alive.
INLINE_LIMIT: Final = 4096
MAX_CHAIN: Final = 64
MAX_FILLS: Final = 1024
MAX_PEER: Final = 64
MAX_DIMS: Final = 8

PRELUDE: Final = struct.Struct("<4sHHIIQII")
_REFUSED_FLAGS: Final = 0xFF00
PROGRAM_BYTES: Final = 16
#: Bytes of a grant; a hop carries one or none.
GRANT_SIZE: Final = 16
GRANT_BYTES: Final = (0, GRANT_SIZE)
MAX_REASON: Final = 256

#: Why an envelope was refused. The words are stable; metrics count by them.
Reason = Literal[
    "bad_magic", "unknown_version", "unknown_flag", "reserved", "header_too_long",
    "too_many_segments", "payload_too_long", "control_with_payload", "truncated", "bad_crc",
    "bad_header", "bad_program", "bad_deadline", "bad_hop", "bad_fill", "bad_segments",
    "bad_control",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class WireLimits:
    """How much an envelope may announce.

    Attributes:
        header: Longest header, in bytes.
        segments: Most segments.
        payload: Longest payload, in bytes, padding included.
    """

    header: int = 16 * 1024
    segments: int = 256
    payload: int = 1 << 30


DEFAULT_LIMITS: Final = WireLimits()


class EnvelopeRefused(WireError):
    """Bytes that came in are not an envelope that may be taken.

    Met by hosts and transports, on the first 32 bytes of a message or on its header, before
    anything is allocated for it. `reason` is a stable word for counters, `close` says whether
    the stream can still be trusted, and `skip` how many bytes to read past.

    Args:
        reason: One of the stable words of `Reason`.
        found: What is wrong, in one sentence.
        expected: What would have been right.
        skip: See below.

    Attributes:
        reason: The stable word.
        close: Whether nothing that follows on the same stream can be trusted.
        skip: How many more bytes belong to this envelope and may be read past unseen, as far as
            it can be believed; 0 when `close`.
    """

    def __init__(self, reason: Reason, found: str, *, expected: str = "", skip: int = 0) -> None:
        super().__init__(found, expected=expected)
        self.reason: Reason = reason
        self.close = reason in ("bad_magic", "truncated")
        self.skip = 0 if self.close else skip


class Prelude(NamedTuple):
    """The first 32 bytes of an envelope, without magic and padding."""

    flags: int
    header_length: int
    segments: int
    payload_length: int
    header_crc: int
    version: int = VERSION

    @property
    def control(self) -> bool:
        """Whether the envelope is a control message."""
        return bool(self.flags & FLAG_CONTROL)

    @property
    def retry(self) -> bool:
        """Whether the envelope was sent before under the same id."""
        return bool(self.flags & FLAG_RETRY)


class Hop(NamedTuple):
    """A frame that waits for a reply.

    Attributes:
        frame: Counter of the frame.
        incarnation: Of the Node it lives on.
        peer: Raw id of that Node.
        grant: 16 bytes that prove the right to answer, or none.
    """

    frame: int
    incarnation: int
    peer: bytes
    grant: bytes = b""


class FillIn(NamedTuple):
    """The value of one port as it came in.

    Attributes:
        segment: Which segment of the payload holds it; -1 when it stands in `inline`.
        length: Bytes of the value, padding not counted.
        codec: Number that the decoder of the port's type understands.
        shape: Dimensions, as the decoder of the port's type understands them.
        inline: The value itself; empty when it is a segment.
    """

    segment: int
    length: int
    codec: int
    shape: tuple[int, ...]
    inline: bytes


@dataclass(frozen=True, slots=True)
class Ack:
    """The message arrived and need not be sent again; `incarnation` is its sender's."""

    message_id: int
    incarnation: int


@dataclass(frozen=True, slots=True)
class Stale:
    """The sender is older than a Node of the same id that was heard before."""

    highest_incarnation: int


@dataclass(frozen=True, slots=True)
class Later:
    """Nothing should be sent for `retry_ns` nanoseconds."""

    retry_ns: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The message will not be taken; `incarnation` is its sender's, `reason` a stable code."""

    reason: str
    message_id: int
    incarnation: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A reply will not come.

    Attributes:
        reason: A stable code.
        frame: Counter of the frame that expects the reply.
        incarnation: Of the Node of that frame.
        edge: Id of the reply's edge.
        grant: As in the hop that asked.
    """

    reason: str
    frame: int
    incarnation: int
    edge: int
    grant: bytes = b""


@dataclass(frozen=True, slots=True)
class Leaving:
    """The sender closes."""


Control = Ack | Stale | Later | Refused | Failed | Leaving


class EnvelopeHead(NamedTuple):
    """A header that was read and is sound in itself; nothing in it is authorized yet.

    Attributes:
        program: First 16 bytes of the sender's program hash.
        edge: Id of the edge; 0 in control messages that concern none.
        incarnation: Of the sender.
        message_id: Unique within the incarnation.
        remaining_ns: What is left of the deadline, or `None`; never 0.
        in_reply_to: A message id, or 0.
        chain: Who waits for replies, nearest last.
        fills: One per port, in order.
        control: What a control message says; `None` in all others.
        retry: Whether it was sent before under the same id.
        payload_length: Bytes that follow the header.
        after: Id of the message on the same edge that comes first, or 0.
    """

    program: bytes
    edge: int
    incarnation: int
    message_id: int
    remaining_ns: int | None
    in_reply_to: int
    chain: tuple[Hop, ...]
    fills: tuple[FillIn, ...]
    control: Control | None
    retry: bool
    payload_length: int
    after: int = 0


def pack_prelude(prelude: Prelude) -> bytes:
    """Write the 32 bytes that `read_prelude` reads.

    Raises:
        WireError: A number does not fit its field.
    """
    flags, header_length, segments, payload_length, crc, version = prelude
    try:
        return PRELUDE.pack(MAGIC, version, flags, header_length, segments, payload_length, crc, 0)
    except struct.error as error:
        raise outside(error) from error


def read_prelude(buf: bytes | bytearray | memoryview, limits: WireLimits) -> Prelude:
    """Read and check the first 32 bytes of `buf`; what follows them is not looked at.

    Raises:
        EnvelopeRefused: It is no prelude, or announces more than the limits allow.
    """
    if len(buf) < PRELUDE_SIZE:
        raise EnvelopeRefused("truncated", f"A prelude breaks off after {len(buf)} of 32 bytes")
    magic, version, flags, header, segments, payload, crc, zero = PRELUDE.unpack_from(buf)
    if magic != MAGIC:
        raise EnvelopeRefused("bad_magic", f"An envelope starts with {magic!r}", expected="b'BBE1'")
    skip = header + payload
    if version != VERSION:
        raise _refused("unknown_version", "version", version, "1", skip)
    if flags & _REFUSED_FLAGS:
        raise _refused("unknown_flag", "flags", hex(flags), "none of bits 8 to 15", skip)
    if zero:
        raise _refused("reserved", "reserved field", zero, "0", skip)
    if header > limits.header:
        raise _refused("header_too_long", "header length", header, f"<= {limits.header}", skip)
    if segments > limits.segments:
        raise _refused("too_many_segments", "segments", segments, f"<= {limits.segments}", skip)
    if payload > limits.payload:
        raise _refused("payload_too_long", "payload length", payload, f"<= {limits.payload}", skip)
    if flags & FLAG_CONTROL and (payload or segments):
        raise _refused("control_with_payload", "payload length", payload, "none in control", skip)
    return Prelude(flags, header, segments, payload, crc, version)


def _refused(reason: Reason, what: str, found: object, expected: str, skip: int) -> EnvelopeRefused:
    return EnvelopeRefused(
        reason, f"The {what} of an envelope is {found}", expected=expected, skip=skip
    )


def outside(error: Exception) -> WireError:
    """Say that a number of the sender does not fit its field."""
    return WireError(
        f"A field of an envelope does not fit: {error}",
        expected="ids and lengths from 0 to 2**64 - 1, codecs below 2**32",
    )


def padded(length: int) -> int:
    """Return how much room a segment of this length takes."""
    return length + -length % ALIGNMENT
