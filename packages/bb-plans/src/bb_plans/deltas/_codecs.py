"""How a difference is written: `sparse`, `xorz`, and bytes as they are.

Both codecs look at the exclusive or of new and old bytes, as elements of 1, 2, 4 or 8 bytes. The
base is cut to the length of what is new, or filled up with zeros; without a base it is all zeros.
Numbers are little-endian; a *stream* is the bytes themselves, or one zstd frame where that is
shorter.

`sparse`  u8 version (1), u8 width, u8 whether the gaps are a frame, u8 whether the values are;
          u64 count of elements that differ, u64 bytes of gaps, u64 of these as they are stored;
          stream of gaps: for each element that differs, how many before it do not, in base 255
          (255 stands for 255 elements that do not, and more to come);
          stream of values: their exclusive or, one plane per byte of the width
`xorz`    u8 version (1), u8 width; for each plane u8 whether it is a frame, u64 bytes stored, and
          the stream: the exclusive or, one plane per byte of the width

Planes are those of the difference's bytes at one place in the element, so that what changes little
(signs and exponents) stands apart from what changes much. The decoder believes nothing: it
allocates in proportion to the length that the plan tells, which is capped, never to what the bytes
claim. There is no loop over elements, and memory beside input and output is bounded by some blocks.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NoReturn, cast

import numpy as np
import zstandard
from numpy.typing import NDArray

from bb_ir.plan import Digest, digest_text
from bb_plans._raw import Bytes, Data, as_bytes
from bb_plans.errors import DifferenceDamaged, DifferenceTooLarge, UnknownDifference
from bb_plans.hashing import digest_of

__all__ = ["CODECS", "MAX_BYTES", "WIDTHS", "decode", "differing", "encode"]

#: Most bytes that `decode` makes of a difference unless it is told otherwise: 4 GiB.
MAX_BYTES: Final = 4 << 30
WIDTHS: Final = (1, 2, 4, 8)

_VERSION: Final = 1
_SPARSE: Final = struct.Struct("<BBBBQQQ")
_XORZ: Final = struct.Struct("<BB")
_PLANE: Final = struct.Struct("<BQ")
_LEVEL: Final = 1  # 0.4 to 1.0 GB/s a core; higher levels win little on such data
_BLOCK: Final = 1 << 20  # elements looked at in one go
_ESCAPE: Final = 255


def encode(codec: str, new: Data, base: Data | None = None, *, width: int = 1) -> bytes:
    """Return the difference of some bytes from others.

    Args:
        codec: One of `CODECS`.
        new: The bytes that shall arrive.
        base: The bytes that the receiver has; `None` for none.
        width: Bytes of an element: 1, 2, 4 or 8; 2 for bfloat16. If it does not divide the length,
            1 is used.

    Raises:
        UnknownDifference: There is no such codec or width.
    """
    encoder = _codec(codec)[0]
    if width not in WIDTHS:
        raise UnknownDifference(
            f"elements of {width!r} bytes", expected=f"one of {', '.join(map(str, WIDTHS))}"
        )
    fresh = as_bytes(new)
    return encoder(fresh, base, width if len(fresh) % width == 0 else 1)


def decode(
    codec: str,
    encoded: Data,
    base: Data | None,
    length: int,
    digest: Digest | None = None,
    *,
    max_bytes: int = MAX_BYTES,
) -> memoryview:
    """Return the bytes that a difference makes of its base, read-only.

    Args:
        codec: What it was encoded with, as the op says; empty for bytes as they are.
        encoded: The encoded bytes, exactly.
        base: The bytes that it was encoded against; `None` if against none.
        length: How many bytes come out, as the op says.
        digest: Their digest, as the op says; `None` if somebody else compares it.
        max_bytes: Most bytes to make.

    Raises:
        DifferenceDamaged: The bytes are no such difference, or give other bytes than promised.
        DifferenceTooLarge: `length` is more than `max_bytes`.
        UnknownDifference: There is no such codec.
    """
    decoder = _codec(codec)[1]
    if not 0 <= length <= max_bytes:
        raise DifferenceTooLarge(
            f"a difference becomes {length} bytes", expected=f"0 to {max_bytes} bytes"
        )
    made = decoder(as_bytes(encoded), base, length)
    found = memoryview(cast("Any", made)).toreadonly()
    if digest is not None and (told := digest_of(found, digest.algorithm)) != digest:
        raise DifferenceDamaged(
            f"the bytes that come out have digest {digest_text(told)}",
            expected=digest_text(digest),
            fix="get the difference again, or the whole chunk; the base may be another one",
        )
    return found


# --- sparse


def _encode_sparse(new: Bytes, base: Data | None, width: int) -> bytes:
    changed = differing(new, base, width)
    gaps: list[Bytes] = []
    values: list[NDArray[Any]] = []
    last = -1
    for start in range(0, len(changed), _BLOCK):
        part = changed[start : start + _BLOCK]
        at = np.flatnonzero(part)
        if not at.size:
            continue
        gaps.append(_gap_bytes(np.diff(at, prepend=last - start) - 1))
        values.append(part[at])
        last = start + int(at[-1])
    joined: Bytes = np.concatenate(gaps) if gaps else np.empty(0, np.uint8)
    found = np.concatenate(values) if values else changed[:0]
    gaps_framed, gaps_stored = _stored(joined)
    values_framed, values_stored = _stored(_planes(found, width).reshape(-1))
    head = _SPARSE.pack(
        _VERSION, width, gaps_framed, values_framed, len(found), len(joined), len(gaps_stored)
    )
    return b"".join((head, gaps_stored, values_stored))


def _gap_bytes(gaps: NDArray[Any]) -> Bytes:
    """Write numbers in base 255, each ending in a byte below 255."""
    more, rest = np.divmod(gaps, _ESCAPE)
    ends = np.cumsum(more + 1)
    written: Bytes = np.full(int(ends[-1]), _ESCAPE, np.uint8)
    written[ends - 1] = rest
    return written


def _decode_sparse(encoded: Bytes, base: Data | None, length: int) -> Bytes:
    head, rest = _cut(encoded, _SPARSE.size, "its head")
    version, width, gaps_framed, values_framed, count, gap_bytes, stored = _SPARSE.unpack(
        head.tobytes()
    )
    elements = _element_count(version, width, length)
    if count > elements or gap_bytes > count + elements // _ESCAPE:
        _damaged(f"{count} elements in {gap_bytes} bytes of gaps, of {elements} elements")
    gaps_stored, values_stored = _cut(rest, stored, "the gaps")
    gaps = _read(gaps_stored, gaps_framed, gap_bytes)
    values = _read(values_stored, values_framed, count * width)
    made = _fitted(base, length).copy()
    _apply(_elements(made, width), gaps, _joined(values, count, width))
    return made


def _apply(into: NDArray[Any], gaps: Bytes, values: NDArray[Any]) -> None:
    """Put values where the gaps say, block by block."""
    used, before = 0, 0  # values that were put, and elements that were passed
    for start in range(0, len(gaps), _BLOCK):
        part = gaps[start : start + _BLOCK]
        ends = np.flatnonzero(part != _ESCAPE)
        passed = np.cumsum(part, dtype=np.int64)
        if used + len(ends) > len(values):
            _damaged("there are more gaps than values")
        at = passed[ends] + np.arange(before + used, before + used + len(ends))
        if at.size and at[-1] >= len(into):
            _damaged(f"an element at {at[-1]}, of {len(into)}")
        into[at] ^= values[used : used + len(ends)]
        used += len(ends)
        before += int(passed[-1])
    if used != len(values) or (gaps.size and gaps[-1] == _ESCAPE):
        _damaged("there are fewer gaps than values")


# --- xorz


def _encode_xorz(new: Bytes, base: Data | None, width: int) -> bytes:
    parts = [_XORZ.pack(_VERSION, width)]
    for plane in _planes(differing(new, base, width), width):
        framed, stored = _stored(plane)
        parts += [_PLANE.pack(framed, len(stored)), stored]
    return b"".join(parts)


def _decode_xorz(encoded: Bytes, base: Data | None, length: int) -> Bytes:
    head, rest = _cut(encoded, _XORZ.size, "its head")
    version, width = _XORZ.unpack(head.tobytes())
    elements = _element_count(version, width, length)
    made: Bytes = np.empty(length, np.uint8)
    for plane in range(width):
        head, rest = _cut(rest, _PLANE.size, f"the head of plane {plane}")
        framed, stored = _PLANE.unpack(head.tobytes())
        body, rest = _cut(rest, stored, f"plane {plane}")
        made[plane::width] = _read(body, framed, elements)
    if rest.size:
        _damaged(f"{rest.size} bytes follow the last plane")
    known = _fitted(base, length) if base is not None else None
    return made if known is None else np.bitwise_xor(made, known, out=made)


# --- raw


def _encode_raw(new: Bytes, _base: Data | None, _width: int) -> bytes:
    return new.tobytes()


def _decode_raw(encoded: Bytes, _base: Data | None, length: int) -> Bytes:
    if len(encoded) != length:
        _damaged(f"there are {len(encoded)} bytes, and {length} are promised")
    return encoded


# --- leaves


def _fitted(base: Data | None, length: int) -> Bytes:
    """Return the base with a length: cut, or filled up with zeros."""
    known = as_bytes(b"" if base is None else base)
    if len(known) >= length:
        return known[:length]
    filled: Bytes = np.zeros(length, np.uint8)
    filled[: len(known)] = known
    return filled


def _xor(new: Bytes, base: Data | None) -> Bytes:
    return new if base is None else np.bitwise_xor(new, _fitted(base, len(new)))


def differing(new: Bytes, base: Data | None, width: int) -> NDArray[Any]:
    """Return the exclusive or of new and old elements: 0 for those that are the same."""
    return _elements(_xor(new, base), width)


def _elements(data: Bytes, width: int) -> NDArray[Any]:
    return data.view(f"<u{width}")


def _planes(elements: NDArray[Any], width: int) -> Bytes:
    """Return the bytes of elements, shape (width, n): those of one place in each row."""
    return np.ascontiguousarray(elements.view(np.uint8).reshape(-1, width).T)


def _joined(planes: Bytes, count: int, width: int) -> NDArray[Any]:
    """Return the elements of which there are planes."""
    return _elements(np.ascontiguousarray(planes.reshape(width, count).T).reshape(-1), width)


class _Zstd(threading.local):
    """Contexts of zstd, which cost more to make than a small chunk to compress; per thread."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self.decompressor = zstandard.ZstdDecompressor()


@lru_cache(maxsize=1)
def _zstd() -> _Zstd:
    return _Zstd()


def _stored(data: Bytes) -> tuple[bool, bytes]:
    """Return whether a stream is a frame, and its bytes."""
    if not data.size:
        return False, b""
    packed = _zstd().compressor.compress(cast("Any", data))
    return (True, packed) if len(packed) < data.size else (False, data.tobytes())


def _read(stored: Bytes, framed: int, length: int) -> Bytes:
    """Return what a stream of a known length holds."""
    if framed not in (0, 1):
        _damaged(f"a stream of kind {framed}")
    if not framed:
        if len(stored) != length:
            _damaged(f"a stream has {len(stored)} bytes instead of {length}")
        return stored
    try:
        # The library allocates what a frame claims, so its claim is looked at first.
        claimed = zstandard.get_frame_parameters(stored[:18].tobytes()).content_size
        if claimed != length:
            _damaged(f"a frame claims {claimed} bytes instead of {length}")
        return as_bytes(
            _zstd().decompressor.decompress(cast("Any", stored), allow_extra_data=False)
        )
    except zstandard.ZstdError as error:
        raise DifferenceDamaged(
            f"a frame cannot be read: {error}"[:200], fix="get the difference again"
        ) from error


def _cut(data: Bytes, size: int, what: str) -> tuple[Bytes, Bytes]:
    if size > len(data):
        _damaged(f"it ends within {what}: {size} bytes, of which {len(data)} are there")
    return data[:size], data[size:]


def _element_count(version: int, width: int, length: int) -> int:
    if version != _VERSION or width not in WIDTHS or length % width:
        _damaged(f"version {version}, elements of {width} bytes in {length} bytes")
    return length // width


def _damaged(found: str) -> NoReturn:
    raise DifferenceDamaged(
        f"a difference cannot be: {found}",
        expected="the bytes that `encode` returned, whole, for as many bytes as the op says",
        fix="get the difference again, or the whole chunk",
    )


def _codec(name: str) -> tuple[Callable[..., bytes], Callable[..., Bytes]]:
    found = _ALL.get(name or "raw")
    if found is None:
        raise UnknownDifference(
            f"{name[:80]!r} is no codec of differences", expected=f"one of {', '.join(CODECS)}"
        )
    return found


_ALL: Final[Mapping[str, tuple[Callable[..., bytes], Callable[..., Bytes]]]] = MappingProxyType({
    "raw": (_encode_raw, _decode_raw),
    "sparse": (_encode_sparse, _decode_sparse),
    "xorz": (_encode_xorz, _decode_xorz),
})  # fmt: skip

#: The ways to write a difference; in a plan, `raw` is the empty text.
CODECS: Final = tuple(_ALL)
