"""The mean of a few vectors of one dtype, which is never out of the range of its values.

Floats are added in binary64, in the order given; integers and bools exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["write_mean"]


def write_mean(rows: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
    """Write the mean of vectors.

    Args:
        rows: One or more, all (d,) and of one dtype, finite.
        out: Where it goes, (d,): floats get the mean in binary64 rounded once more to their dtype,
            integers and bools the exact one, rounded half to even.
    """
    if rows[0].dtype.kind in "iub":
        out[...] = _whole_mean(rows)
        return
    if rows[0].dtype != np.float64:
        # Sums cannot overflow, and rounding to fewer bits passes over no value of fewer bits.
        mean = _float_mean(rows)
        out[...] = np.add(mean, 0.0, out=mean)  # makes a negative zero positive
        return
    with np.errstate(over="ignore", invalid="ignore"):  # looked for right below
        mean = _float_mean(rows)
    if not np.isfinite(mean).all():
        scale = 2.0 ** -len(rows).bit_length()
        mean = _float_mean([row.astype(np.float64) * scale for row in rows]) / scale
    # Rounding must not carry it beyond the values: those of float64 could become infinite.
    low, high = rows[0].copy(), rows[0].copy()
    for row in rows[1:]:
        np.minimum(low, row, out=low)
        np.maximum(high, row, out=high)
    np.clip(mean, low.astype(np.float64), high.astype(np.float64), out=mean)
    np.add(mean, 0.0, out=mean)  # makes a negative zero positive
    out[...] = mean


def _float_mean(rows: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    total = rows[0].astype(np.float64)
    for row in rows[1:]:
        np.add(total, row, out=total, dtype=np.float64)
    np.divide(total, len(rows), out=total)
    return total


def _whole_mean(rows: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Add quotients and remainders apart, so that no sum is too large for 64 bits."""
    count = len(rows)
    wide: Any = np.uint64 if rows[0].dtype == np.uint64 else np.int64
    whole: NDArray[Any] = np.zeros(rows[0].size, wide)
    rest: NDArray[Any] = np.zeros(rows[0].size, wide)
    for row in rows:
        quotient, remainder = np.divmod(row.astype(wide), wide(count))
        whole += quotient
        rest += remainder
    below, left = np.divmod(rest, wide(count))
    whole += below
    up = (2 * left > count) | ((2 * left == count) & (whole % 2 == 1))
    np.add(whole, up, out=whole, casting="unsafe")
    return whole
