"""Ops that fold axes: sums, means, extremes, their positions, running sums.

Axes come as an input. Results keep the dtype: integers wrap as they do elsewhere in the standard,
16-bit floats are summed in float32 and rounded once. The mean of integers is cut towards zero;
roots and logarithms of integers are taken in float64 and cut.

With `noop_with_empty_axes` and no axes nothing is folded, but the op's other steps still happen:
`ReduceSumSquare` squares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

import numpy as np

from bb_backend_numpy._op import Op
from bb_backend_numpy._support import Factory, Tensor, integers
from bb_roles.contracts import Kernel

__all__ = ["TABLE"]

#: `None` is every axis, `()` none at all.
_Axes: TypeAlias = tuple[int, ...] | None


class _Fold(Protocol):
    def __call__(self, x: Tensor, axes: _Axes, /, *, keep: bool) -> Any: ...


_asarray = np.asarray
# The overloads that numpy declares for these do not take a bool that is not a literal.
_add: Callable[..., Any] = np.add.reduce
_multiply: Callable[..., Any] = np.multiply.reduce
_maximum: Callable[..., Any] = np.maximum.reduce
_minimum: Callable[..., Any] = np.minimum.reduce


def _reduction(fold: _Fold) -> Factory:
    """Make the factory of an op that folds axes."""

    def factory(op: Op) -> Kernel:
        keep = op.flag("keepdims", default=True)
        noop = op.flag("noop_with_empty_axes", default=False)
        without_axes: _Axes = () if noop else None

        def kernel(x: Tensor, axes: Tensor | None = None) -> Tensor:
            chosen = integers(axes) if axes is not None and axes.size else without_axes
            y = fold(x, chosen, keep=keep)
            return y if type(y) is np.ndarray else _asarray(y)

        return kernel

    return factory


def _sum(x: Tensor, axes: _Axes, *, keep: bool) -> Any:
    dtype = x.dtype
    if _is_short_float(dtype):
        return _add(x, axes, np.dtype(np.float32), keepdims=keep).astype(dtype)
    return _add(x, axes, dtype, keepdims=keep)


def _prod(x: Tensor, axes: _Axes, *, keep: bool) -> Any:
    dtype = x.dtype
    if _is_short_float(dtype):
        return _multiply(x, axes, np.dtype(np.float32), keepdims=keep).astype(dtype)
    return _multiply(x, axes, dtype, keepdims=keep)


def _mean(x: Tensor, axes: _Axes, *, keep: bool) -> Any:
    dtype = x.dtype
    wide = np.dtype(np.float32) if _is_short_float(dtype) else dtype
    total = _asarray(_add(x, axes, wide, keepdims=keep))
    if not total.size:
        return total.astype(dtype)
    count = x.size // total.size
    if dtype.kind not in "iu":
        return np.true_divide(total, count, total).astype(dtype, copy=False)
    # Rounded towards zero: the sign is taken off and put back.
    size = np.floor_divide(np.absolute(total), dtype.type(count))
    return np.multiply(np.sign(total), size)


def _max(x: Tensor, axes: _Axes, *, keep: bool) -> Any:
    if x.size:
        return _maximum(x, axes, keepdims=keep)
    return _maximum(x, axes, keepdims=keep, initial=_extreme(x.dtype, lowest=True))


def _min(x: Tensor, axes: _Axes, *, keep: bool) -> Any:
    if x.size:
        return _minimum(x, axes, keepdims=keep)
    return _minimum(x, axes, keepdims=keep, initial=_extreme(x.dtype, lowest=False))


def _extreme(dtype: np.dtype[Any], *, lowest: bool) -> Any:
    """Return what the maximum (or minimum) of nothing is."""
    if dtype.kind == "b":
        return not lowest
    if dtype.kind in "iu":
        return np.iinfo(dtype).min if lowest else np.iinfo(dtype).max
    return -np.inf if lowest else np.inf


def _l1(x: Tensor, axes: _Axes, *, keep: bool) -> Any:
    return _sum(np.absolute(x), axes, keep=keep)


def _sum_square(x: Tensor, axes: _Axes, *, keep: bool) -> Any:
    dtype = x.dtype
    if _is_short_float(dtype):
        return _sum(np.square(x.astype(np.float32)), axes, keep=keep).astype(dtype)
    return _sum(np.square(x), axes, keep=keep)


def _wide(fold: _Fold) -> _Fold:
    """Fold integers in float64 and 16-bit floats in float32, and return in the input's dtype."""

    def folded(x: Tensor, axes: _Axes, *, keep: bool) -> Any:
        dtype = x.dtype
        if dtype.kind in "iu":
            x = x.astype(np.float64)
        elif _is_short_float(dtype):
            x = x.astype(np.float32)
        return fold(x, axes, keep=keep).astype(dtype, copy=False)

    return folded


def _l2(x: Tensor, axes: _Axes, *, keep: bool) -> Any:
    return np.sqrt(_add(np.square(x), axes, keepdims=keep))


def _log_sum(x: Tensor, axes: _Axes, *, keep: bool) -> Any:
    return np.log(_add(x, axes, keepdims=keep))


def _log_sum_exp(x: Tensor, axes: _Axes, *, keep: bool) -> Any:
    top = _asarray(_max(x, axes, keep=True))
    # An infinite top cannot be subtracted; the exponentials then are what they are.
    top = np.where(np.isfinite(top), top, x.dtype.type(0))
    total = _asarray(_add(np.exp(x - top), axes, keepdims=True))
    y = np.add(np.log(total), top)
    return y if keep else y.squeeze(tuple(range(x.ndim)) if axes is None else axes)


def _is_short_float(dtype: np.dtype[Any]) -> bool:
    return dtype.itemsize < 4 and dtype.kind not in "biu"


def _arg(method: str) -> Factory:
    """Make the factory of an op that finds the position of an extreme."""

    def factory(op: Op) -> Kernel:
        axis = op.integer("axis", 0)
        keep = op.flag("keepdims", default=True)
        last = op.flag("select_last_index", default=False)
        search = getattr(np.ndarray, method)

        def first_index(x: Tensor) -> Tensor:
            return _asarray(search(x, axis, keepdims=keep), np.int64)

        def last_index(x: Tensor) -> Tensor:
            found = search(np.flip(x, axis), axis, keepdims=keep)
            return _asarray(x.shape[axis] - 1 - found, np.int64)

        return last_index if last else first_index

    return factory


def _cum_sum(op: Op) -> Kernel:
    exclusive = op.flag("exclusive", default=False)
    reverse = op.flag("reverse", default=False)

    def kernel(x: Tensor, axis: Tensor) -> Tensor:
        along = int(axis.item())
        ordered = np.flip(x, along) if reverse else x
        wide = np.dtype(np.float32) if _is_short_float(x.dtype) else x.dtype
        total: Tensor = np.add.accumulate(ordered, along, wide)
        if exclusive:
            total = _shifted(total, along)
        if reverse:
            total = np.flip(total, along)
        return total.astype(x.dtype, copy=False)

    return kernel


def _shifted(total: Tensor, axis: int) -> Tensor:
    """Move running sums by one place, so that each leaves its own element out."""
    result = np.zeros_like(total)
    before = (slice(None),) * (axis % total.ndim)
    result[(*before, slice(1, None))] = total[(*before, slice(None, -1))]
    return result


TABLE: Mapping[str, Factory] = {
    "ArgMax": _arg("argmax"),
    "ArgMin": _arg("argmin"),
    "CumSum": _cum_sum,
    "ReduceL1": _reduction(_l1),
    "ReduceL2": _reduction(_wide(_l2)),
    "ReduceLogSum": _reduction(_wide(_log_sum)),
    "ReduceLogSumExp": _reduction(_wide(_log_sum_exp)),
    "ReduceMax": _reduction(_max),
    "ReduceMean": _reduction(_mean),
    "ReduceMin": _reduction(_min),
    "ReduceProd": _reduction(_prod),
    "ReduceSum": _reduction(_sum),
    "ReduceSumSquare": _reduction(_sum_square),
}
