"""Unsigned varints as multiformats writes them, and nothing else.

Seven bits to a byte, the lowest first, the top bit set on all bytes but the last. A number has
exactly one encoding, so bytes can be compared instead of numbers. This module knows no addresses:
callers turn its `ValueError` into their own error with the place in it.

Source: the multiformats unsigned-varint specification.
"""

from __future__ import annotations

__all__ = ["MAX_VARINT_BYTES", "decode_varint", "encode_varint"]

#: Longest encoding the specification allows; it holds 63 bits.
MAX_VARINT_BYTES = 9

_LIMIT = 1 << (7 * MAX_VARINT_BYTES)


def encode_varint(number: int) -> bytes:
    """Write a number from 0 to 2**63 - 1 as a varint.

    Raises:
        ValueError: The number is negative or needs more than 9 bytes.
    """
    if not 0 <= number < _LIMIT:
        raise ValueError(f"{number} is outside the range of a varint, 0 to 2**63 - 1")
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def decode_varint(data: bytes, start: int = 0) -> tuple[int, int]:
    """Read one varint and return it with the offset of the byte after it.

    Args:
        data: Bytes that hold a varint at `start`; what follows it is not looked at.
        start: Offset of its first byte.

    Raises:
        ValueError: The bytes end inside it, it is longer than 9 bytes or not the shortest
            encoding of its number.
    """
    number = 0
    chunk = data[start : start + MAX_VARINT_BYTES]
    for index, byte in enumerate(chunk):
        number |= (byte & 0x7F) << (7 * index)
        if byte & 0x80:
            continue
        if byte == 0 and index > 0:
            raise ValueError(
                f"the varint {chunk[: index + 1].hex()} is not the shortest for {number}"
            )
        return number, start + index + 1
    if len(chunk) == MAX_VARINT_BYTES:
        raise ValueError(f"the varint {chunk.hex()}... is longer than {MAX_VARINT_BYTES} bytes")
    raise ValueError(f"the bytes end inside a varint, after {chunk.hex() or 'nothing'}")
