"""One tensor as whole numbers and back: scaling, rounding, packing.

The elements of a tensor, in C order, form groups of equal size that stand one after another. With
the largest magnitude `a` of its group, a value x becomes an integer near x / a * top, top = 127 for
8 bits and 7 for 4. What is kept for a group is `a` itself and not the step a / top: it is one of
the values, so float32 holds it exactly, however small it is.

Everything is computed in float64, in tiles that stay in the cache. This file knows no parameter
sets and checks nothing but that values are finite.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["TOPS", "Bits", "Per", "code_bytes", "groups_of", "largest", "read", "write"]

Bits = Literal[8, 4]
Per = Literal["tensor", "channel"]

#: The largest code of each width.
TOPS: Final[dict[int, int]] = {8: 127, 4: 7}

#: Elements per tile; even, so that every tile begins with a whole byte.
_TILE: Final = 1 << 15
#: What is added to a code of 4 bits, so that it is not negative.
_MIDDLE: Final = 8

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


def code_bytes(shape: tuple[int, ...], bits: int) -> int:
    """Return how many bytes the codes of a tensor take; each tensor begins with a new one."""
    return -(-prod(shape) * bits // 8)


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
    bits: int,
    rng: np.random.Generator | None,
    out: _Codes,
) -> None:
    """Write the codes of a tensor.

    Args:
        values: The tensor; finite.
        scales: Largest magnitude of each group.
        bits: 8 or 4.
        rng: Where stochastic rounding draws from; `None` rounds to nearest.
        out: As many bytes as `code_bytes` says.
    """
    top = TOPS[bits]
    flat = values.reshape(-1)
    divisors = np.where(scales == 0.0, 1.0, scales)
    for tile in _tiles(flat.size):
        exact = flat[tile].astype(np.float64)
        exact /= _spread(divisors, tile, flat.size)
        exact *= top
        codes = np.rint(exact) if rng is None else _rounded_by_chance(exact, rng)
        _pack(codes.astype(np.int8), bits, out[tile.start * bits // 8 :])


def read(codes: _Codes, scales: _Exact, bits: int, out: NDArray[Any]) -> bool:
    """Write the values of a tensor; return False when a code is none that `write` makes.

    Args:
        codes: As many bytes as `code_bytes` says.
        scales: Largest magnitude of each group.
        bits: 8 or 4.
        out: Where the values go, in C order.
    """
    top = TOPS[bits]
    flat = out.reshape(-1)
    for tile in _tiles(flat.size):
        part = codes[tile.start * bits // 8 : -(-tile.stop * bits // 8)]
        found = _unpack(part, bits)
        if int(found.min()) < -top or found[tile.stop - tile.start :].any():
            return False
        # Divided first: the largest code is 1 exactly, and the product cannot overflow.
        exact = found[: tile.stop - tile.start] / np.float64(top)
        exact *= _spread(scales, tile, flat.size)
        flat[tile] = exact
    return True


def _rounded_by_chance(exact: _Exact, rng: np.random.Generator) -> _Exact:
    """Round up with the probability of the fraction; whole numbers stay as they are."""
    low = np.floor(exact)
    exact -= low
    low += rng.random(exact.size) < exact
    return low


def _pack(codes: NDArray[np.int8], bits: int, out: _Codes) -> None:
    if bits == 8:
        out[: codes.size] = codes.view(np.uint8)
        return
    count = -(-codes.size // 2)
    shifted = np.full(2 * count, _MIDDLE, np.uint8)
    shifted[: codes.size] = codes + np.int8(_MIDDLE)
    out[:count] = shifted[::2] | (shifted[1::2] << np.uint8(4))


def _unpack(part: _Codes, bits: int) -> NDArray[np.int8]:
    if bits == 8:
        return part.view(np.int8)
    found = np.empty(2 * part.size, np.int8)
    found[::2] = part & np.uint8(15)
    found[1::2] = part >> np.uint8(4)
    found -= np.int8(_MIDDLE)
    return found


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
