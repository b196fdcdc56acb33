"""Layers that look at whole channels, places or positions.

Global pools, normalisation over neighbours or chosen axes, rotary positions, affine grids, crops
about the middle. 16-bit floats are computed in float32 and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from bb_backend_numpy._op import Op
from bb_backend_numpy._support import Factory, Tensor, fixed, integers, widened
from bb_backend_numpy.errors import KernelError
from bb_roles.contracts import Kernel

__all__ = ["TABLE"]

#: What the standard adds to a deviation, so that nothing is divided by zero.
_TINY = 1e-9


def _global_mean(x: Tensor) -> Tensor:
    return np.asarray(np.mean(x, tuple(range(2, x.ndim)), keepdims=True))


def _global_max(x: Tensor) -> Tensor:
    return np.asarray(np.max(x, tuple(range(2, x.ndim)), keepdims=True))


def _determinant(x: Tensor) -> Tensor:
    return np.asarray(np.linalg.det(x))


def _mean_variance(op: Op) -> Kernel:
    axes = op.integers("axes")
    chosen = (0, 2, 3) if axes is None else axes

    def compute(x: Tensor) -> Tensor:
        y = x - np.mean(x, chosen, keepdims=True)
        deviation = np.sqrt(np.mean(y * y, chosen, keepdims=True))
        return np.asarray(y / (deviation + x.dtype.type(_TINY)))

    return widened(compute)


def _local_response(op: Op) -> Kernel:
    alpha, beta = op.real("alpha", 1e-4), op.real("beta", 0.75)
    bias, size = op.real("bias", 1.0), op.needed_integer("size")
    if size < 1:
        raise op.bad("size", "a positive number")
    before, after = (size - 1) // 2, size // 2

    def compute(x: Tensor) -> Tensor:
        squares, channels = x * x, x.shape[1]
        total = np.zeros_like(squares)
        for step in range(-min(before, channels), min(after, channels) + 1):
            first, last = max(0, -step), min(channels, channels - step)
            total[:, first:last] += squares[:, first + step : last + step]
        # Written so that a float32 stays one, also before numpy 2.
        np.multiply(total, alpha / size, total)
        np.add(total, bias, total)
        np.power(total, beta, total)
        np.divide(x, total, total)
        return total

    return widened(compute)


def _rotary_embedding(op: Op) -> Kernel:
    interleaved = op.flag("interleaved", default=False)
    heads, chosen = op.integer("num_heads", 0), op.integer("rotary_embedding_dim", 0)

    def kernel(
        x: Tensor, cosines: Tensor, sines: Tensor, positions: Tensor | None = None
    ) -> Tensor:
        split = _by_head(x, heads)
        width = chosen or split.shape[-1]
        cos, sin = (c if positions is None else c[positions] for c in (cosines, sines))
        cos, sin = (c[..., np.newaxis, :].astype(split.dtype) for c in (cos, sin))
        one, other = (
            (slice(0, width, 2), slice(1, width, 2))
            if interleaved
            else (slice(0, width // 2), slice(width // 2, width))
        )
        a, b = split[..., one], split[..., other]
        y = split.copy()
        y[..., one] = cos * a - sin * b
        y[..., other] = sin * a + cos * b
        back = y.reshape(x.shape) if x.ndim == 3 else y.swapaxes(1, 2)
        return back.astype(x.dtype, copy=False)

    return kernel


def _by_head(x: Tensor, heads: int) -> Tensor:
    """Return batch, position, head and width as the four axes, in float32 at least."""
    wide = x.astype(np.float32) if x.dtype.itemsize < 4 else x
    if x.ndim == 4:
        return wide.swapaxes(1, 2)
    if x.ndim != 3 or heads < 1:
        raise KernelError(
            f"RotaryEmbedding was given {x.ndim} axes and {heads} heads",
            expected="4 axes, or 3 and the attribute num_heads",
            fix="Set num_heads where the op is recorded.",
        )
    return wide.reshape(*x.shape[:2], heads, -1)


def _affine_grid(op: Op) -> Kernel:
    corners = op.flag("align_corners", default=False)

    def kernel(theta: Tensor, size: Tensor) -> Tensor:
        sizes = integers(size)[2:]
        lines = [_places(count, corners=corners) for count in sizes]
        grids = np.meshgrid(*lines, indexing="ij")[::-1]
        points = np.stack([*grids, np.ones(sizes)], -1).astype(theta.dtype)
        flat = points.reshape(-1, len(sizes) + 1)
        made: Tensor = np.matmul(flat, theta.swapaxes(1, 2))
        return made.reshape(theta.shape[0], *sizes, len(sizes)).astype(theta.dtype, copy=False)

    return kernel


def _places(count: int, *, corners: bool) -> Tensor:
    """Return evenly spaced places from -1 to 1: of the corners, or of the middles of cells."""
    if corners:
        return np.linspace(-1, 1, count)
    return (2 * np.arange(count) + 1) / max(1, count) - 1


def _center_crop_pad(op: Op) -> Kernel:
    axes = op.integers("axes")

    def kernel(x: Tensor, shape: Tensor) -> Tensor:
        chosen = range(x.ndim) if axes is None else axes
        wanted = list(x.shape)
        source, target = [slice(None)] * x.ndim, [slice(None)] * x.ndim
        for axis, size in zip(chosen, integers(shape), strict=True):
            had, wanted[axis] = x.shape[axis], size
            kept = min(had, size)
            source[axis] = slice((had - kept) // 2, (had - kept) // 2 + kept)
            target[axis] = slice((size - kept) // 2, (size - kept) // 2 + kept)
        y = np.zeros(wanted, x.dtype)
        y[tuple(target)] = x[tuple(source)]
        return y

    return kernel


def _float_fixed(compute: Callable[[Tensor], Tensor]) -> Factory:
    return fixed(widened(compute))


TABLE: Mapping[str, Factory] = {
    "AffineGrid": _affine_grid,
    "CenterCropPad": _center_crop_pad,
    "Det": _float_fixed(_determinant),
    "GlobalAveragePool": _float_fixed(_global_mean),
    "GlobalMaxPool": fixed(_global_max),
    "LRN": _local_response,
    "MeanVarianceNormalization": _mean_variance,
    "RotaryEmbedding": _rotary_embedding,
}
