"""Products of small integers, and making them of floats.

Sums are in int32 and wrap, as the standard has them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bb_backend_numpy._support import Factory, Tensor, fixed

__all__ = ["TABLE"]

#: Steps between the least and the largest uint8.
_STEPS = 255


def _mat_mul_integer(
    a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None
) -> Tensor:
    left, right = a.astype(np.int32), b.astype(np.int32)
    if a_zero is not None:
        # One number for all, or one for each row.
        zero = a_zero.astype(np.int32)
        left = left - (zero[:, np.newaxis] if zero.ndim == 1 and zero.size > 1 else zero)
    if b_zero is not None:
        right = right - b_zero.astype(np.int32)
    return np.asarray(np.matmul(left, right))


def _dynamic_quantize(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    low = np.minimum(np.float32(0), np.min(x, initial=0))
    high = np.maximum(np.float32(0), np.max(x, initial=0))
    scale = np.asarray((high - low) / np.float32(_STEPS), np.float32)
    if scale == 0:
        return np.zeros(x.shape, np.uint8), scale, np.asarray(0, np.uint8)
    zero = np.rint(np.clip(-low / scale, 0, _STEPS))
    y = np.clip(np.rint(x / scale) + zero, 0, _STEPS)
    return np.asarray(y, np.uint8), scale, np.asarray(zero, np.uint8)


TABLE: Mapping[str, Factory] = {
    "DynamicQuantizeLinear": fixed(_dynamic_quantize),
    "MatMulInteger": fixed(_mat_mul_integer),
}
