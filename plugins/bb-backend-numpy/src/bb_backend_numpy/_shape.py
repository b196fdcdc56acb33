"""Ops about shapes: views, joins, cuts, fills, constants.

`Identity`, `Reshape`, `Transpose`, `Squeeze`, `Unsqueeze`, `Flatten`, `Split`, `Slice` and
`Expand` return views, or the input itself: values are immutable in this system, so nobody can
tell. A view keeps its base in memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import methodcaller
from typing import Any

import numpy as np

from bb_backend_numpy._op import Op
from bb_backend_numpy._support import Factory, Tensor, dtype_of, fixed, integers
from bb_backend_numpy.errors import KernelError
from bb_roles.contracts import Kernel

__all__ = ["TABLE"]


def _identity(x: Any) -> Any:
    return x


def _reshape(op: Op) -> Kernel:
    def kernel(x: Tensor, shape: Tensor) -> Tensor:
        sizes = shape.tolist()
        if 0 in sizes:
            sizes = [x.shape[at] if size == 0 else size for at, size in enumerate(sizes)]
        return x.reshape(sizes)

    def literal(x: Tensor, shape: Tensor) -> Tensor:
        return x.reshape(shape.tolist())

    return literal if op.flag("allowzero", default=False) else kernel


def _transpose(op: Op) -> Kernel:
    perm = op.integers("perm")
    if perm is None:
        return methodcaller("transpose")
    if sorted(perm) != list(range(len(perm))):
        raise op.bad("perm", f"each of 0 to {len(perm) - 1} once")
    return methodcaller("transpose", perm)


def _flatten(op: Op) -> Kernel:
    axis = op.integer("axis", 1)

    def kernel(x: Tensor) -> Tensor:
        return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))

    return kernel


def _squeeze(x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(integers(axes))


def _unsqueeze(x: Tensor, axes: Tensor) -> Tensor:
    new = integers(axes)
    rank = x.ndim + len(new)
    places = {axis + rank if axis < 0 else axis for axis in new}
    if len(places) != len(new) or not places <= set(range(rank)):
        raise KernelError(
            f"Unsqueeze was given the axes {list(new)} for a tensor of rank {x.ndim}",
            expected=f"different axes from {-rank} to {rank - 1}",
            fix="Correct the axes.",
        )
    old = iter(x.shape)
    return x.reshape([1 if at in places else next(old) for at in range(rank)])


def _concat(op: Op) -> Kernel:
    axis = op.needed_integer("axis")

    def kernel(*inputs: Tensor) -> Tensor:
        return np.concatenate(inputs, axis)

    return kernel


def _split(op: Op) -> Kernel:
    axis = op.integer("axis", 0)
    outputs = op.outputs
    parts = op.optional_integer("num_outputs")
    if parts is not None and parts != outputs:
        raise op.bad("num_outputs", f"{outputs}, the number of outputs of the op")

    def kernel(x: Tensor, split: Tensor | None = None) -> Any:
        size = x.shape[axis]
        lengths = _parts(size, outputs) if split is None else integers(split)
        if len(lengths) != outputs or sum(lengths) != size or min(lengths) < 0:
            raise KernelError(
                f"Split was given the lengths {list(lengths)} for {outputs} outputs of {size}",
                expected=f"{outputs} lengths that add up to {size}",
                fix="Correct the lengths, or leave them out for equal parts.",
            )
        cuts, start = [], 0
        for length in lengths:
            cuts.append(x[_along(axis, slice(start, start + length))])
            start += length
        return cuts[0] if outputs == 1 else tuple(cuts)

    return kernel


def _parts(size: int, count: int) -> tuple[int, ...]:
    """Cut a size into equal parts; the last one is smaller where they cannot be equal."""
    part = -(-size // count)
    return (*(part,) * (count - 1), size - part * (count - 1))


def _along(axis: int, cut: slice) -> tuple[Any, ...]:
    """Return the index that cuts one axis, counted from either end."""
    if axis < 0:
        return (..., cut, *(slice(None),) * (-axis - 1))
    return (*(slice(None),) * axis, cut)


def _expand(x: Tensor, shape: Tensor) -> Tensor:
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, integers(shape)))


def _tile(x: Tensor, repeats: Tensor) -> Tensor:
    return np.tile(x, integers(repeats))


def _pad(op: Op) -> Kernel:
    mode: Any = op.choice("mode", "constant", "reflect", "edge", "wrap")

    def kernel(
        x: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None
    ) -> Tensor:
        widths = _widths(x.ndim, integers(pads), None if axes is None else integers(axes))
        if any(before < 0 or after < 0 for before, after in widths):
            x = x[
                tuple(
                    slice(max(0, -b), n - max(0, -a))
                    for (b, a), n in zip(widths, x.shape, strict=True)
                )
            ]
            widths = [(max(0, before), max(0, after)) for before, after in widths]
        if mode == "constant":
            return _padded(x, widths, value)
        return np.pad(x, widths, mode)

    return kernel


def _widths(
    rank: int, pads: tuple[int, ...], axes: tuple[int, ...] | None
) -> list[tuple[int, int]]:
    """Return how much to add before and after each axis."""
    chosen = range(rank) if axes is None else axes
    if len(pads) != 2 * len(chosen):
        raise KernelError(
            f"Pad was given {len(pads)} widths for {len(chosen)} axes",
            expected=f"{2 * len(chosen)} widths: all that come before, then all that come after",
            fix="Give two widths per axis.",
        )
    widths = [(0, 0)] * rank
    for at, axis in enumerate(chosen):
        widths[axis] = (pads[at], pads[at + len(chosen)])
    return widths


def _padded(x: Tensor, widths: Sequence[tuple[int, int]], value: Tensor | None) -> Tensor:
    shape = [before + size + after for (before, after), size in zip(widths, x.shape, strict=True)]
    y = np.zeros(shape, x.dtype)
    if value is not None:
        y[...] = value
    y[tuple(slice(b, b + size) for (b, _), size in zip(widths, x.shape, strict=True))] = x
    return y


def _shape(op: Op) -> Kernel:
    wanted = slice(op.integer("start", 0), op.optional_integer("end"))
    return lambda x: np.array(x.shape[wanted], np.int64)


def _size(x: Tensor) -> Tensor:
    return np.array(x.size, np.int64)


def _constant(op: Op) -> Kernel:
    value = _constant_value(op)
    value.flags.writeable = False
    return lambda: value


def _constant_value(op: Op) -> Tensor:
    """Return a copy of the one value that is set."""
    for name in ("value_string", "value_strings", "sparse_value"):
        if op.has(name):
            raise op.bad(name, "a dense tensor or numbers: texts are no tensors here")
    names = ("value", "value_float", "value_floats", "value_int", "value_ints")
    chosen = [name for name in names if op.has(name)]
    if len(chosen) != 1:
        raise KernelError(
            f"Constant has {len(chosen)} values: {', '.join(chosen) or 'none'}",
            expected=f"one of {', '.join(names)}",
            fix="Set exactly one.",
        )
    match chosen[0]:
        case "value":
            return op.tensor("value").copy()
        case "value_float":
            return np.array(op.real("value_float", 0), np.float32)
        case "value_floats":
            return np.array(op.reals("value_floats"), np.float32)
        case "value_int":
            return np.array(op.integer("value_int", 0), np.int64)
        case _:
            return np.array(op.integers("value_ints"), np.int64)


def _constant_of_shape(op: Op) -> Kernel:
    has_value = op.has("value")
    value = op.tensor("value") if has_value else np.zeros(1, np.float32)
    if value.size != 1:
        raise op.bad("value", "a tensor with one element")
    value = value.reshape(()).copy()

    def kernel(shape: Tensor) -> Tensor:
        return np.full(integers(shape), value, value.dtype)

    return kernel


def _eye_like(op: Op) -> Kernel:
    dtype = dtype_of(op, "dtype", 1) if op.has("dtype") else None
    diagonal = op.integer("k", 0)

    def kernel(x: Tensor) -> Tensor:
        rows, columns = x.shape
        return np.eye(rows, columns, diagonal, dtype or x.dtype)

    return kernel


def _trilu(op: Op) -> Kernel:
    cut: Any = np.triu if op.flag("upper", default=True) else np.tril

    def kernel(x: Tensor, k: Tensor | None = None) -> Tensor:
        y: Tensor = cut(x, 0 if k is None else int(k.item()))
        return y

    return kernel


def _range(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    dtype = start.dtype
    first, end, step = start.item(), limit.item(), delta.item()
    if dtype.kind in "iu":
        count, wide = -((first - end) // step), dtype
    else:
        count = math.ceil((end - first) / step)
        wide = dtype if dtype.itemsize > 4 else np.dtype(np.float32)
    steps: Tensor = np.arange(max(0, count)).astype(wide)
    y: Tensor = steps * wide.type(step) + wide.type(first)
    return y.astype(dtype, copy=False)


def _depth_to_space(op: Op) -> Kernel:
    block = _block_size(op)
    by_column = op.choice("mode", "DCR", "CRD") == "CRD"

    def kernel(x: Tensor) -> Tensor:
        n, depth, height, width = x.shape
        channels = depth // (block * block)
        if by_column:
            y = x.reshape(n, channels, block, block, height, width).transpose(0, 1, 4, 2, 5, 3)
        else:
            y = x.reshape(n, block, block, channels, height, width).transpose(0, 3, 4, 1, 5, 2)
        return y.reshape(n, channels, height * block, width * block)

    return kernel


def _space_to_depth(op: Op) -> Kernel:
    block = _block_size(op)

    def kernel(x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        y = x.reshape(n, channels, height // block, block, width // block, block)
        y = y.transpose(0, 3, 5, 1, 2, 4)
        return y.reshape(n, channels * block * block, height // block, width // block)

    return kernel


def _block_size(op: Op) -> int:
    block = op.needed_integer("blocksize")
    if block < 1:
        raise op.bad("blocksize", "a positive number")
    return block


TABLE: Mapping[str, Factory] = {
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "DepthToSpace": _depth_to_space,
    "Expand": fixed(_expand),
    "EyeLike": _eye_like,
    "Flatten": _flatten,
    "Identity": fixed(_identity),
    "Pad": _pad,
    "Range": fixed(_range),
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": fixed(_size),
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": fixed(_squeeze),
    "Tile": fixed(_tile),
    "Transpose": _transpose,
    "Trilu": _trilu,
    "Unsqueeze": fixed(_unsqueeze),
}
