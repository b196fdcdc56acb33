"""One tensor as small numbers and back: scaling, rounding, packing.

The elements of a tensor, in C order, form groups of equal size that stand one after another. What
is kept for a group is its largest magnitude `a`: it is one of the values, so float32 holds it
exactly, however small it is.

To `int8` and `int4` a value x becomes an integer near x / a * top, top = 127 for 8 bits and 7 for
4.

To `float16` and `bfloat16` it becomes the float near x / b * top, b being the largest power of two
that is no larger than `a`, top = 2**14 for float16 and 1 for bfloat16. Powers of two lose nothing,
so what comes back is what a cast would give wherever that is a normal number; and neither large
groups overflow nor small ones vanish.

Everything is computed in float64, in tiles that stay in the cache. This file knows no parameter
sets and checks nothing but that values are finite.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any, Final, Literal, NamedTuple

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

__all__ = ["WIDTHS", "Per", "To", "code_bytes", "groups_of", "largest", "read", "write"]

To = Literal["int8", "int4", "float16", "bfloat16"]
Per = Literal["tensor", "channel"]

#: Bits of each code.
WIDTHS: Final[dict[str, int]] = {"int8": 8, "int4": 4, "float16": 16, "bfloat16": 16}


class _Float(NamedTuple):
    """A float of 16 bits.

    Attributes:
        dtype: Itself.
        digits: Bits of its significand, the one that is not written included.
        least: Exponent of its smallest normal number, as `frexp` counts.
    """

    dtype: np.dtype[Any]
    digits: int
    least: int


_FLOATS: Final = {
    "float16": _Float(np.dtype("<f2"), 11, -13),
    "bfloat16": _Float(np.dtype(ml_dtypes.bfloat16), 8, -125),
}
#: What the largest magnitude becomes, or the power of two below it.
_TOPS: Final = {"int8": 127.0, "int4": 7.0, "float16": 2.0**14, "bfloat16": 1.0}

#: Elements per tile; even, so that every tile begins with a whole byte.
_TILE: Final = 1 << 15
#: What is added to a code of 4 bits, so that it is not negative.
_MIDDLE: Final = 8

_finfo: Any = ml_dtypes.finfo  # it has no types

_Codes = NDArray[np.uint8]
_Exact = NDArray[np.float64]


def groups_of(shape: tuple[int, ...], per: Per) -> int:
    """Return how many groups, each with a scale of its own, a tensor has.

    A channel is an index of the first axis. Tensors with fewer than two axes have one group, and
    those without elements none.
    """
    if not prod(shape):
        return 0
    return shape[0] if per == "channel" and len(shape) > 1 else 1


def code_bytes(shape: tuple[int, ...], to: str) -> int:
    """Return how many bytes the codes of a tensor take; each tensor begins with a new one."""
    return -(-prod(shape) * WIDTHS[to] // 8)


def largest(values: NDArray[Any], groups: int) -> _Exact:
    """Return the largest magnitude in each group; not finite where a value is not."""
    lines = values.reshape(groups, -1)
    if lines.dtype.name == "bfloat16":
        lines = lines.astype(np.float32)  # its own maximum passes over NaN
    high, low = lines.max(axis=1).astype(np.float64), lines.min(axis=1).astype(np.float64)
    found: _Exact = np.maximum(high, -low)
    return found


def write(
    values: NDArray[Any],
    scales: _Exact,
    to: str,
    rng: np.random.Generator | None,
    out: _Codes,
) -> None:
    """Write the codes of a tensor.

    Args:
        values: The tensor; finite.
        scales: Largest magnitude of each group.
        to: What the codes are; of `To`.
        rng: Where stochastic rounding draws from; `None` rounds to nearest.
        out: As many bytes as `code_bytes` says.
    """
    flat, top = values.reshape(-1), _TOPS[to]
    divisors = _steps(np.where(scales == 0.0, 1.0, scales), to)
    for tile in _tiles(flat.size):
        exact = flat[tile].astype(np.float64)
        exact /= _spread(divisors, tile, flat.size)
        exact *= top
        part = out[tile.start * WIDTHS[to] // 8 :]
        if to in _FLOATS:
            codes = exact if rng is None else _float_by_chance(exact, _FLOATS[to], rng)
            part[: 2 * exact.size] = codes.astype(_FLOATS[to].dtype).view(np.uint8)
            continue
        codes = np.rint(exact) if rng is None else _whole_by_chance(exact, rng)
        _pack(codes.astype(np.int8), to, part)


def read(codes: _Codes, scales: _Exact, to: str, out: NDArray[Any]) -> bool:
    """Write the values of a tensor; return False when a code is none that `write` makes.

    Args:
        codes: As many bytes as `code_bytes` says.
        scales: Largest magnitude of each group.
        to: What the codes are; of `To`.
        out: Where the values go, in C order.
    """
    flat, top, width = out.reshape(-1), _TOPS[to], WIDTHS[to]
    steps = _steps(scales, to)
    # What is no integer may have been rounded up, beyond the largest number there is.
    highest = _largest_of(out.dtype) if to in _FLOATS else np.inf
    clipped = bool(scales.max() > highest / 2)
    for tile in _tiles(flat.size):
        found = _unpack(codes[tile.start * width // 8 : -(-tile.stop * width // 8)], to)
        if not _as_written(found, tile.stop - tile.start, to):
            return False
        # Divided first: the largest code is 1 exactly, and the product cannot overflow.
        exact = found[: tile.stop - tile.start].astype(np.float64)
        exact /= top
        with np.errstate(over="ignore"):  # clipped right below
            exact *= _spread(steps, tile, flat.size)
        if clipped:
            np.clip(exact, -highest, highest, out=exact)
        flat[tile] = exact
    return True


def _largest_of(dtype: np.dtype[Any]) -> float:
    return float(_finfo(dtype).max)


def _steps(scales: _Exact, to: str) -> _Exact:
    """Return what values are divided by: the largest magnitude, or the power of two below it."""
    if to not in _FLOATS:
        return scales
    exponents = np.frexp(scales)[1]
    return np.where(scales == 0.0, 0.0, np.ldexp(1.0, exponents - 1))


def _whole_by_chance(exact: _Exact, rng: np.random.Generator) -> _Exact:
    """Round up with the probability of the fraction; whole numbers stay as they are."""
    low = np.floor(exact)
    exact -= low
    low += rng.random(exact.size) < exact
    return low


def _float_by_chance(exact: _Exact, kind: _Float, rng: np.random.Generator) -> _Exact:
    """Do the same between the two nearest floats."""
    exponents = np.maximum(np.frexp(exact)[1], kind.least) - kind.digits
    found: _Exact = np.ldexp(_whole_by_chance(np.ldexp(exact, -exponents), rng), exponents)
    return found


def _pack(codes: NDArray[np.int8], to: str, out: _Codes) -> None:
    if to == "int8":
        out[: codes.size] = codes.view(np.uint8)
        return
    count = -(-codes.size // 2)
    shifted = np.full(2 * count, _MIDDLE, np.uint8)
    shifted[: codes.size] = codes + np.int8(_MIDDLE)
    out[:count] = shifted[::2] | (shifted[1::2] << np.uint8(4))


def _unpack(part: _Codes, to: str) -> NDArray[Any]:
    if to in _FLOATS:
        return part.view(_FLOATS[to].dtype)
    if to == "int8":
        return part.view(np.int8)
    found = np.empty(2 * part.size, np.int8)
    found[::2] = part & np.uint8(15)
    found[1::2] = part >> np.uint8(4)
    found -= np.int8(_MIDDLE)
    return found


def _as_written(found: NDArray[Any], count: int, to: str) -> bool:
    """Whether `write` makes such codes; those beyond `count` only pad a byte."""
    top = _TOPS[to]
    if to not in _FLOATS:
        return int(found.min()) >= -top and not found[count:].any()
    # The largest may have been rounded up to the next power of two. Magnitudes are ordered as their
    # bits are, with infinity and NaN above all others.
    highest = np.array(2.0 * top, found.dtype).view(np.uint16)
    return bool((found.view(np.uint16) & np.uint16(0x7FFF)).max() <= highest)


def _tiles(size: int) -> Iterator[slice]:
    return (slice(start, min(start + _TILE, size)) for start in range(0, size, _TILE))


def _spread(scales: _Exact, tile: slice, size: int) -> _Exact:
    """Return the scale of each element of a tile, or the one scale that all have."""
    if len(scales) == 1:
        return scales
    width = size // len(scales)
    first, last = tile.start // width, (tile.stop - 1) // width
    starts = np.arange(first, last + 2) * width
    counts = np.diff(np.clip(starts, tile.start, tile.stop))
    return np.repeat(scales[first : last + 1], counts)
