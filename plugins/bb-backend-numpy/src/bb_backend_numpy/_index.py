"""Ops that pick and place elements by position.

Negative positions count from the end. A position outside its axis is an error, never clamped;
only `Slice` clamps, and `OneHot` gives such a position no mark, as the standard says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bb_backend_numpy._op import Op
from bb_backend_numpy._support import Factory, Tensor, fixed
from bb_roles.contracts import Kernel

__all__ = ["TABLE"]

_asarray = np.asarray
_Place = Callable[[Tensor, tuple[Tensor, ...], Tensor], None]


def _gather(op: Op) -> Kernel:
    axis = op.integer("axis", 0)

    def kernel(x: Tensor, indices: Tensor) -> Tensor:
        y = x.take(indices, axis)
        return y if type(y) is np.ndarray else _asarray(y)

    return kernel


def _gather_elements(op: Op) -> Kernel:
    axis = op.integer("axis", 0)

    def kernel(x: Tensor, indices: Tensor) -> Tensor:
        return _asarray(x[_element_index(indices, axis)])

    return kernel


def _element_index(indices: Tensor, axis: int) -> tuple[Tensor, ...]:
    """Return the index whose one axis is given and whose others are each element's own place."""
    rank = indices.ndim
    index = [_steps(size, at, rank) for at, size in enumerate(indices.shape)]
    index[axis] = indices
    return tuple(index)


def _steps(size: int, axis: int, rank: int) -> Tensor:
    """Return 0, 1, ... along one of several axes."""
    shape = [1] * rank
    shape[axis] = size
    return np.arange(size).reshape(shape)


def _gather_nd(op: Op) -> Kernel:
    batch = op.integer("batch_dims", 0)
    if batch < 0:
        raise op.bad("batch_dims", "0 or more")

    def kernel(x: Tensor, indices: Tensor) -> Tensor:
        return _asarray(x[_tuple_index(indices, batch)])

    return kernel


def _tuple_index(indices: Tensor, batch: int = 0) -> tuple[Tensor, ...]:
    """Return the index whose tuples stand in the last axis of `indices`."""
    rank = indices.ndim - 1
    own = [_steps(indices.shape[axis], axis, rank) for axis in range(batch)]
    return (*own, *(indices[..., at] for at in range(indices.shape[-1])))


def _scatter_elements(op: Op) -> Kernel:
    axis = op.integer("axis", 0)
    place = _placing(op)

    def kernel(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        y = x.copy()
        place(y, _element_index(indices, axis), updates)
        return y

    return kernel


def _scatter_nd(op: Op) -> Kernel:
    place = _placing(op)

    def kernel(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        y = x.copy()
        place(y, _tuple_index(indices), updates)
        return y

    return kernel


def _placing(op: Op) -> _Place:
    """Return how updates join what stands at their place."""
    reduction = op.choice("reduction", "none", "add", "mul", "max", "min")
    if reduction == "none":
        return _overwrite
    ufuncs = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}
    place: _Place = ufuncs[reduction].at
    return place


def _overwrite(y: Tensor, index: tuple[Tensor, ...], updates: Tensor) -> None:
    y[index] = updates


def _slice(
    x: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    firsts, lasts = starts.tolist(), ends.tolist()
    chosen = range(len(firsts)) if axes is None else axes.tolist()
    strides = [1] * len(firsts) if steps is None else steps.tolist()
    index = [slice(None)] * x.ndim
    for first, last, axis, stride in zip(firsts, lasts, chosen, strides, strict=True):
        # Python starts before the first element and finds nothing; the standard starts at it.
        start = max(first, -x.shape[axis]) if stride < 0 else first
        index[axis] = slice(start, last, stride)
    return x[tuple(index)]


def _top_k(op: Op) -> Kernel:
    axis = op.integer("axis", -1)
    largest = op.flag("largest", default=True)
    # An order is promised only if asked for, but sorting always also makes ties certain.
    op.flag("sorted", default=True)

    def kernel(x: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        order = _descending(x, axis) if largest else np.argsort(x, axis, kind="stable")
        wanted = order.swapaxes(axis, -1)[..., : int(k.item())].swapaxes(axis, -1)
        positions = wanted.astype(np.int64, copy=False)
        values: Tensor = np.take_along_axis(x, positions, axis)
        return values, positions

    return kernel


def _descending(x: Tensor, axis: int) -> Tensor:
    """Return the order from large to small; of equals, the lower position comes first."""
    backwards: Tensor = np.argsort(np.flip(x, axis), axis, kind="stable")
    order: Tensor = x.shape[axis] - 1 - np.flip(backwards, axis)
    return order


def _one_hot(op: Op) -> Kernel:
    axis = op.integer("axis", -1)

    def kernel(indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
        classes = int(depth.item())
        chosen = indices.astype(np.int64)
        chosen[chosen < 0] += classes
        marks = chosen[..., np.newaxis] == np.arange(classes)
        y: Tensor = values.take(np.moveaxis(marks, -1, axis).astype(np.intp))
        return y

    return kernel


def _compress(op: Op) -> Kernel:
    axis = op.optional_integer("axis")

    def kernel(x: Tensor, condition: Tensor) -> Tensor:
        return x.compress(condition, axis)

    return kernel


def _non_zero(x: Tensor) -> Tensor:
    return np.array(np.nonzero(x), np.int64)


def _reverse_sequence(op: Op) -> Kernel:
    batch, time = op.integer("batch_axis", 1), op.integer("time_axis", 0)
    if {batch, time} != {0, 1}:
        raise op.bad("batch_axis", "0 and 1 for the two axes, one each")

    def kernel(x: Tensor, lengths: Tensor) -> Tensor:
        rows = x if batch == 0 else x.swapaxes(0, 1)
        ends, steps = lengths[:, np.newaxis], np.arange(rows.shape[1])
        order = np.where(steps < ends, ends - 1 - steps, steps)
        y = rows[np.arange(rows.shape[0])[:, np.newaxis], order]
        return y if batch == 0 else y.swapaxes(0, 1)

    return kernel


def _unique(op: Op) -> Kernel:
    axis, outputs = op.optional_integer("axis"), op.outputs
    in_order = op.flag("sorted", default=True)

    def kernel(x: Tensor) -> Any:
        values, firsts, inverse, counts = np.unique(
            x, return_index=True, return_inverse=True, return_counts=True, axis=axis
        )
        # Releases of numpy disagree about its shape; in the standard it is flat.
        inverse = inverse.reshape(-1)
        if not in_order:
            order = np.argsort(firsts)
            places = np.argsort(order)
            values = values.take(order, 0 if axis is None else axis)
            firsts, inverse, counts = firsts[order], places[inverse], counts[order]
        made = (values, *(y.astype(np.int64, copy=False) for y in (firsts, inverse, counts)))
        return values if outputs == 1 else made[:outputs]

    return kernel


TABLE: Mapping[str, Factory] = {
    "Compress": _compress,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "NonZero": fixed(_non_zero),
    "OneHot": _one_hot,
    "ReverseSequence": _reverse_sequence,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Slice": fixed(_slice),
    "TopK": _top_k,
    "Unique": _unique,
}
