"""The fold of `_grid`, compiled: one pass over memory, and the same bits.

Only imported where numba is installed and wanted; a kernel is compiled at its first call and kept
in numba's cache on disk where that can be written.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bb_roles.folding._rounding import BIAS, MAGIC

__all__ = ["add"]

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


def add(
    sums: NDArray[np.int64], values: NDArray[Any], scale: float, bound: float, *, fast: bool
) -> int:
    """Add values times scale, on the grid, up to the first block that is out of range.

    Args:
        sums: The accumulator, with one `BIAS` more afterwards.
        values: As many float32 or float64 values, aligned.
        scale: Weight times 2**k.
        bound: Largest magnitude that is in range.
        fast: Whether all products of values in range are within what `MAGIC` rounds.

    Returns:
        How many values were added: all, or those before the block that is out of range.
    """
    limit = values.dtype.type(bound)
    if limit > bound:  # the next smaller value of this dtype is the bound
        limit = np.nextafter(limit, values.dtype.type(0))
    bits = limit.view(np.int32 if values.dtype.itemsize == 4 else np.int64)
    kernel = _compiled(_add_fast if fast else _add_large)
    return int(kernel(sums, values, scale, bits, type(bits)(0)))


@lru_cache(maxsize=2)
def _compiled(kernel: Callable[..., int]) -> Callable[..., int]:
    """Return a kernel that compiles itself at its first call."""
    compiled: Callable[..., int]
    try:
        compiled = _numba.njit(cache=True, nogil=True)(kernel)
    except RuntimeError:  # there is no folder that the cache could be in
        compiled = _numba.njit(nogil=True)(kernel)
    return compiled
