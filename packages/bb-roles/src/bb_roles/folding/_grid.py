"""Weighted sums on a grid of integers: the same bits in any order, and undone exactly.

A value x of weight w adds the integer rint(x * w * 2**k) to a 64-bit accumulator. Rounding
concerns one value of one update and no other, and integers add up to the same sum in any order.
Whatever was added can be subtracted, so an update that turns out unfit halfway leaves no trace.

For values of up to 24 bits (float32, float16, bfloat16) x * w * 2**k is exact in a binary64 and
only the rounding to an integer loses anything. Products of float64 values are rounded once more
before that; this too depends on x and w alone. Integers and bools are summed as they are.

How it is fast. Adding 1.5 * 2**52 to a binary64 below 2**51 in magnitude rounds it to an integer,
half to even, and leaves that integer in its low bits; so the bits of the sum, taken as an int64,
are `BIAS` plus the integer. That needs no conversion, which most processors have no vector
instruction for. Accumulators hold the sum modulo 2**64 with one `BIAS` for each update, which is
taken off when the sum is read. Everything is done in tiles that stay in the cache.

`WideSum` has two words for each value, for bounds that leave one word too few bits.

This module knows no rounds, no peers and no metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from bb_ir.buffers import BufferPool, allocate
from bb_roles.folding._rounding import BIAS, MAGIC
from bb_roles.kernels import Engine, wants_numba

__all__ = ["Fold", "GridSum", "IntegerSum", "WideSum", "make_fold"]

#: Largest magnitude that `MAGIC` rounds rightly.
_FAST: Final = 2.0**51

#: Elements per tile: enough to make calls cheap, and the scratch of 256 KiB stays in the cache.
_TILE: Final = 1 << 15
_Floats = NDArray[Any]
_Sums = NDArray[np.int64]


class Fold(Protocol):
    """The weighted sum of all tensors of one dtype."""

    def add(self, values: NDArray[Any], weight: int) -> bool:
        """Add all values, or none and return False because one is out of range."""
        ...

    def undo(self, values: NDArray[Any], weight: int) -> None:
        """Subtract what `add` added."""
        ...

    def write_mean(self, weight: int, out: NDArray[Any]) -> None:
        """Write the sum divided by the whole weight."""
        ...

    def save(self) -> _Sums:
        """Return the sums, as whoever holds them would compute them by hand."""
        ...

    def load(self, sums: _Sums) -> None:
        """Take over what `save` returned."""
        ...


def make_fold(
    dtype: str,
    count: int,
    *,
    bits: int,
    low: int,
    bounds: tuple[int, int],
    engine: Engine,
    pool: BufferPool,
) -> Fold:
    """Return an empty sum.

    Args:
        dtype: Element type of the values.
        count: Number of values.
        bits: The k of the grid.
        low: Bits of the lower of two words in which floats are summed; 0 for one word.
        bounds: Largest magnitudes of floats and of integers.
        engine: Who computes it; the result is the same.
        pool: Where the accumulator comes from.
    """
    floats = "float" in dtype
    words = 2 if low and floats else 1
    sums = allocate(8 * count * words, pool).view(np.int64)
    if low or not floats:
        sums[:] = 0
    if not floats:
        return IntegerSum(sums, bounds[1])
    compiled = compiled_wide = mean = None
    if dtype in ("float32", "float64") and wants_numba(engine, count):
        from bb_roles.folding import _numba

        compiled, compiled_wide, mean = _numba.add, _numba.add_wide, _numba.write_mean
    if low:
        return WideSum(sums, bits=bits, low=low, bound=bounds[0], compiled=compiled_wide)
    return GridSum(sums, bits=bits, bound=bounds[0], compiled=compiled, mean=mean)


class GridSum:
    """The weighted sum of floats on a grid of 2**-bits.

    The memory may hold anything: the first update is written to it, not added, which spares the
    passes that would write zeros and read them.
    """

    def __init__(
        self,
        sums: _Sums,
        *,
        bits: int,
        bound: int,
        compiled: Callable[..., int] | None = None,
        mean: Callable[..., None] | None = None,
    ) -> None:
        self._sums = sums
        self._unit = 2.0**bits
        self._bound = float(bound)
        self._compiled = compiled
        self._mean = mean
        #: Updates in the sum, each with a `BIAS`.
        self._count = 0
        #: Whether the memory holds no sum yet.
        self._empty = True
        self._float = np.empty(min(_TILE, sums.size), np.float64)
        self._integers: _Sums = self._float.view(np.int64)

    def add(self, values: _Floats, weight: int) -> bool:
        """Add all values, or none and return False because one is out of range."""
        scale = weight * self._unit
        if self._compiled is not None and values.flags.aligned:
            done = self._add_compiled(values, scale)
        else:
            done = self._add_tiles(values, scale)
        if done < values.size:
            if not self._empty:
                self._subtract(values[:done], scale)
            return False
        self._count += 1
        self._empty = False
        return True

    def undo(self, values: _Floats, weight: int) -> None:
        """Subtract what `add` added."""
        self._subtract(values, weight * self._unit)
        self._count -= 1

    def write_mean(self, weight: int, out: _Floats) -> None:
        """Write the sum divided by the whole weight: one rounding to binary64, one to `out`."""
        whole = weight * self._unit
        bias = _wrapped(self._count * BIAS)
        if self._mean is not None and out.flags.aligned:
            self._mean(self._sums, bias, whole, out)
            return
        for tile in _tiles(out.size):
            out[tile] = np.divide(self._sums[tile] - bias, whole)

    def save(self) -> _Sums:
        """Return the sums without bias."""
        if self._empty:
            return np.zeros_like(self._sums)
        return self._sums - _wrapped(self._count * BIAS)

    def load(self, sums: _Sums) -> None:
        """Take over sums without bias."""
        self._sums[:] = sums
        self._count = 0
        self._empty = False

    def _add_tiles(self, values: _Floats, scale: float) -> int:
        """Add tile by tile up to the first that is out of range; return how many values."""
        if values.size <= _TILE:
            return int(values.size) if self._add_tile(self._sums, values, scale) else 0
        for tile in _tiles(values.size):
            if not self._add_tile(self._sums[tile], values[tile], scale):
                return int(tile.start)
        return int(values.size)

    def _add_tile(self, sums: _Sums, values: _Floats, scale: float) -> bool:
        reach = _reach(values)
        if not reach <= self._bound:  # also when it is not a number
            return False
        if self._empty:
            sums[:] = self._on_grid(values, scale, reach)
        else:
            np.add(sums, self._on_grid(values, scale, reach), out=sums)
        return True

    def _add_compiled(self, values: _Floats, scale: float) -> int:
        assert self._compiled is not None
        fast, first = self._bound * scale <= _FAST, self._empty
        return self._compiled(self._sums, values, scale, self._bound, fast=fast, first=first)

    def _subtract(self, values: _Floats, scale: float) -> None:
        for tile in _tiles(values.size):
            sums = self._sums[tile]
            reach = _reach(values[tile])
            np.subtract(sums, self._on_grid(values[tile], scale, reach), out=sums)

    def _on_grid(self, tile: _Floats, scale: float, reach: float) -> _Sums:
        """Return the integers of a tile, each with one `BIAS`, in scratch memory."""
        scratch, integers = self._float, self._integers
        if tile.size < scratch.size:
            scratch, integers = scratch[: tile.size], integers[: tile.size]
        np.multiply(tile, scale, out=scratch, dtype=np.float64)
        if reach * scale <= _FAST:
            np.add(scratch, MAGIC, out=scratch)
            return integers
        np.rint(scratch, out=scratch)
        integers[:] = scratch.astype(np.int64)
        np.add(integers, BIAS, out=integers)
        return integers


class WideSum:
    """The weighted sum of floats on a grid of 2**-bits, in two words for each.

    An integer is split at 2**low, towards 0, so that both parts have its sign and are exact. Each
    word is a sum of its own, with room for all updates: nothing is carried until the sum is read.
    """

    def __init__(
        self,
        sums: _Sums,
        *,
        bits: int,
        low: int,
        bound: int,
        compiled: Callable[..., int] | None = None,
    ) -> None:
        half = sums.size // 2
        self._high, self._low = sums[:half], sums[half:]
        self._unit = 2.0**bits
        self._bits = low
        self._step = 2.0**low
        self._bound = float(bound)
        self._compiled = compiled
        self._whole = np.empty(min(_TILE, half), np.float64)
        self._part = np.empty_like(self._whole)

    def add(self, values: _Floats, weight: int) -> bool:
        """Add all values, or none and return False because one is out of range."""
        scale = weight * self._unit
        if self._compiled is not None and values.flags.aligned:
            done = self._compiled(self._high, self._low, values, scale, self._step, self._bound)
        else:
            done = self._add_tiles(values, scale)
        if done < values.size:
            self._subtract(values[:done], scale)
            return False
        return True

    def undo(self, values: _Floats, weight: int) -> None:
        """Subtract what `add` added."""
        self._subtract(values, weight * self._unit)

    def write_mean(self, weight: int, out: _Floats) -> None:
        """Write the sum divided by the whole weight: one rounding to binary64 each, one to `out`.

        The bounds leave the higher word 53 bits, and the lower one has 52 at most, so both are
        exact as a binary64.
        """
        whole = weight * self._unit
        for tile in _tiles(out.size):
            high, low = self._carried(tile)
            out[tile] = np.divide(high * self._step + low, whole)

    def save(self) -> _Sums:
        """Return the higher words and then the lower ones, which are not negative."""
        high, low = self._carried(slice(None))
        return np.concatenate([high, low])

    def load(self, sums: _Sums) -> None:
        """Take over the words."""
        self._high[:], self._low[:] = sums[: self._high.size], sums[self._high.size :]

    def _carried(self, tile: slice) -> tuple[_Sums, _Sums]:
        """Return the words of a tile as they are for each sum in one way only."""
        carry = self._low[tile] >> self._bits
        return self._high[tile] + carry, self._low[tile] - (carry << self._bits)

    def _add_tiles(self, values: _Floats, scale: float) -> int:
        """Add tile by tile up to the first that is out of range; return how many values."""
        for tile in _tiles(values.size):
            if not _reach(values[tile]) <= self._bound:  # also when it is not a number
                return int(tile.start)
            high, low = self._split(values[tile], scale)
            self._high[tile] += high
            self._low[tile] += low
        return int(values.size)

    def _subtract(self, values: _Floats, scale: float) -> None:
        for tile in _tiles(values.size):
            high, low = self._split(values[tile], scale)
            self._high[tile] -= high
            self._low[tile] -= low

    def _split(self, tile: _Floats, scale: float) -> tuple[_Sums, _Sums]:
        """Return the integers of a tile as two words."""
        whole, part = self._whole[: tile.size], self._part[: tile.size]
        np.multiply(tile, scale, out=whole, dtype=np.float64)
        np.rint(whole, out=whole)
        np.trunc(np.divide(whole, self._step, out=part), out=part)
        high = part.astype(np.int64)
        np.subtract(whole, np.multiply(part, self._step, out=part), out=whole)
        return high, whole.astype(np.int64)


class IntegerSum:
    """The weighted sum of integers or bools, without any rounding until the mean."""

    def __init__(self, sums: _Sums, bound: int) -> None:
        self._sums = sums
        self._bound = bound

    def add(self, values: NDArray[Any], weight: int) -> bool:
        """Add all values, or none and return False because one is out of range."""
        if values.size and max(int(values.max()), -int(values.min())) > self._bound:
            return False
        for tile in _tiles(values.size):
            self._sums[tile] += values[tile].astype(np.int64) * weight
        return True

    def undo(self, values: NDArray[Any], weight: int) -> None:
        """Subtract what `add` added."""
        for tile in _tiles(values.size):
            self._sums[tile] -= values[tile].astype(np.int64) * weight

    def write_mean(self, weight: int, out: NDArray[Any]) -> None:
        """Write the sum divided by the whole weight, rounded half to even without error."""
        for tile in _tiles(out.size):
            below, left = np.divmod(self._sums[tile], weight)
            up = (2 * left > weight) | ((2 * left == weight) & (below % 2 == 1))
            out[tile] = below + up

    def save(self) -> _Sums:
        """Return the sums."""
        return self._sums.copy()

    def load(self, sums: _Sums) -> None:
        """Take over the sums."""
        self._sums[:] = sums


def _tiles(size: int) -> Iterator[slice]:
    return (slice(start, min(start + _TILE, size)) for start in range(0, size, _TILE))


def _reach(tile: _Floats) -> float:
    """Return the largest magnitude, or NaN if there is one."""
    if not tile.size:
        return 0.0
    # The methods of arrays find the same in twice the time.
    low, high = float(np.minimum.reduce(tile)), float(np.maximum.reduce(tile))
    return max(-low, high) if low == low else low  # noqa: PLR0124 - true unless it is NaN


def _wrapped(number: int) -> np.int64:
    """Return a number modulo 2**64 as an int64."""
    return np.int64((number + (1 << 63)) % (1 << 64) - (1 << 63))
