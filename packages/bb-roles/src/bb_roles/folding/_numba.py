"""The fold of `_grid`, compiled: one pass over memory, and the same bits.

Only imported where numba is installed and wanted.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bb_roles.folding._rounding import BIAS, MAGIC
from bb_roles.kernels import compiled

__all__ = ["add", "add_wide", "write_mean"]

# It has no types, and type checkers run without it.
_numba: Any = import_module("numba")
_extending: Any = import_module("numba.extending")

#: Values that are checked at once; they stay in the first cache.
_BLOCK = 2048
_BIAS = np.int64(BIAS)


def _bits_of(_context: Any, _value: Any) -> Any:
    """Take the bits of a binary64 as an int64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(signature.return_type))

    return _numba.types.int64(_numba.types.float64), generate


def _larger_bits(_context: Any, worst: Any, value: Any) -> Any:
    """Return the larger of an integer and the bits of a float's magnitude.

    Magnitudes are ordered as their bits are, with infinity and NaN above all finite ones, and
    integers are compared without the detours that NaN forces upon floats.
    """

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = context.get_value_type(worst)
        mask = kind((1 << (worst.bitwidth - 1)) - 1)
        bits = builder.and_(builder.bitcast(args[1], kind), mask)
        return builder.select(builder.icmp_unsigned(">", bits, args[0]), bits, args[0])

    return worst(worst, value), generate


_bits: Any = _extending.intrinsic(_bits_of)
_larger: Any = _extending.intrinsic(_larger_bits)


def _add_fast(sums: Any, values: Any, scale: Any, limit: Any, zero: Any) -> Any:
    """Add block by block up to the first that is out of range; return how many values.

    A block is added while it is checked, and subtracted if it fails. Also the bits of a NaN come
    out the same both times, and integers wrap, so nothing is left of it.
    """
    for start in range(0, values.size, _BLOCK):
        # Counting from 0 within a slice spares the test for negative indices, so that each loop
        # becomes vector instructions.
        block = values[start : start + _BLOCK]
        held = sums[start : start + _BLOCK]
        worst = zero
        for i in range(block.size):
            worst = _larger(worst, block[i])
            held[i] += _bits(np.float64(block[i]) * scale + MAGIC)
        if worst > limit:
            for i in range(block.size):
                held[i] -= _bits(np.float64(block[i]) * scale + MAGIC)
            return start
    return values.size


def _set_fast(sums: Any, values: Any, scale: Any, limit: Any, zero: Any) -> Any:
    """Write the first update over whatever is there; if one fails, nothing of it counts."""
    for start in range(0, values.size, _BLOCK):
        block = values[start : start + _BLOCK]
        held = sums[start : start + _BLOCK]
        worst = zero
        for i in range(block.size):
            worst = _larger(worst, block[i])
            held[i] = _bits(np.float64(block[i]) * scale + MAGIC)
        if worst > limit:
            return start
    return values.size


def _add_large(sums: Any, values: Any, scale: Any, limit: Any, zero: Any) -> Any:
    """Do the same for weights so large that `MAGIC` cannot round the products."""
    for start in range(0, values.size, _BLOCK):
        block = values[start : start + _BLOCK]
        held = sums[start : start + _BLOCK]
        worst = zero
        for i in range(block.size):
            worst = _larger(worst, block[i])
        if worst > limit:  # before anything is added: what a NaN is as an integer is undefined
            return start
        for i in range(block.size):
            held[i] += np.int64(np.rint(np.float64(block[i]) * scale)) + _BIAS
    return values.size


def _add_wide(  # noqa: PLR0917  # as numba calls it
    high: Any, low: Any, values: Any, scale: Any, step: Any, limit: Any, zero: Any
) -> Any:
    """Do the same in two words, the lower of which is what `step` leaves."""
    for start in range(0, values.size, _BLOCK):
        block = values[start : start + _BLOCK]
        above, below = high[start : start + _BLOCK], low[start : start + _BLOCK]
        worst = zero
        for i in range(block.size):
            worst = _larger(worst, block[i])
        if worst > limit:
            return start
        for i in range(block.size):
            whole = np.rint(np.float64(block[i]) * scale)
            part = np.trunc(whole / step)
            above[i] += np.int64(part)
            below[i] += np.int64(whole - part * step)
    return values.size


def add_wide(  # noqa: PLR0917  # called for every update, by one caller
    high: NDArray[np.int64],
    low: NDArray[np.int64],
    values: NDArray[Any],
    scale: float,
    step: float,
    bound: float,
) -> int:
    """Add values times scale to two words each, up to the first block that is out of range.

    Args:
        high: The accumulators of what is a multiple of `step`, divided by it.
        low: Those of what is left.
        values: As many float32 or float64 values, aligned.
        scale: Weight times 2**k.
        step: A power of two.
        bound: Largest magnitude that is in range.

    Returns:
        How many values were added: all, or those before the block that is out of range.
    """
    bits = _limit_bits(values, bound)
    return int(compiled(_add_wide)(high, low, values, scale, step, bits, type(bits)(0)))


def _mean(sums: Any, bias: Any, whole: Any, out: Any) -> Any:
    """Divide each sum: it is rounded to binary64, its quotient is, and that to the dtype."""
    for start in range(0, out.size, _BLOCK):
        held = sums[start : start + _BLOCK]
        part = out[start : start + _BLOCK]
        for i in range(part.size):
            part[i] = np.float64(held[i] - bias) / whole


def write_mean(sums: NDArray[np.int64], bias: np.int64, whole: float, out: NDArray[Any]) -> None:
    """Write sums divided by the whole weight.

    Args:
        sums: The accumulator.
        bias: What is too much in each.
        whole: Whole weight times 2**k, not 0.
        out: Where the means go: float32 or float64, aligned.
    """
    compiled(_mean)(sums, bias, whole, out)


def add(
    sums: NDArray[np.int64],
    values: NDArray[Any],
    scale: float,
    bound: float,
    *,
    fast: bool,
    first: bool,
) -> int:
    """Add values times scale, on the grid, up to the first block that is out of range.

    Args:
        sums: The accumulator, with one `BIAS` more afterwards.
        values: As many float32 or float64 values, aligned.
        scale: Weight times 2**k.
        bound: Largest magnitude that is in range.
        fast: Whether all products of values in range are within what `MAGIC` rounds.
        first: Whether the accumulator holds no sums yet, but anything.

    Returns:
        How many values were added: all, or those before the block that is out of range.
    """
    bits = _limit_bits(values, bound)
    kernel = _add_large
    if fast:
        kernel = _set_fast if first else _add_fast
    elif first:
        sums[:] = 0
    return int(compiled(kernel)(sums, values, scale, bits, type(bits)(0)))


def _limit_bits(values: NDArray[Any], bound: float) -> Any:
    """Return the bits of the largest magnitude that is in range, in the dtype of the values."""
    limit = values.dtype.type(bound)
    if limit > bound:  # the next smaller value of this dtype is the bound
        limit = np.nextafter(limit, values.dtype.type(0))
    return limit.view(np.int32 if values.dtype.itemsize == 4 else np.int64)
