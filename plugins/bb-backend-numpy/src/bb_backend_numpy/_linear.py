"""Products of matrices, and normalisations.

Products keep the dtype of their inputs. `Gemm` adds into the product's own memory. Normalisations
compute at least in float32 whatever `stash_type` says, so float64 stays float64; `Mean` and
`InvStdDev` leave in the dtype that `stash_type` names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from bb_backend_numpy._op import Op
from bb_backend_numpy._support import Factory, Tensor, dtype_of, fixed
from bb_backend_numpy.errors import KernelError
from bb_roles.contracts import Kernel

__all__ = ["TABLE"]

_EQUATION = re.compile(r"[A-Za-z.,\s]*(->[A-Za-z.\s]*)?")


def _mat_mul(a: Tensor, b: Tensor) -> Tensor:
    y = np.matmul(a, b)
    if y.dtype != a.dtype:
        y = y.astype(a.dtype)
    return y if type(y) is np.ndarray else np.asarray(y)


def _gemm(op: Op) -> Kernel:
    alpha, beta = op.real("alpha", 1.0), op.real("beta", 1.0)
    trans_a = op.flag("transA", default=False)
    trans_b = op.flag("transB", default=False)

    def kernel(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        y = _mat_mul(a.T if trans_a else a, b.T if trans_b else b)
        if alpha != 1:
            y = _times(y, alpha)
        if c is None or beta == 0:
            return y
        return np.add(y, c if beta == 1 else _times(c, beta), y)

    return kernel


def _times(x: Tensor, factor: float) -> Tensor:
    """Return `x * factor` in the dtype of `x`, cut towards zero for integers."""
    return np.multiply(x, factor, np.empty_like(x), casting="unsafe")


def _einsum(op: Op) -> Kernel:
    equation = op.needed_text("equation")
    if not _EQUATION.fullmatch(equation):
        raise op.bad("equation", "letters, commas, '...' and at most one '->'")

    def kernel(*inputs: Tensor) -> Tensor:
        dtype = inputs[0].dtype
        if dtype.kind == "V":  # numpy's einsum knows its own number types only
            inputs = tuple(x.astype(np.float32) for x in inputs)
        return np.asarray(np.einsum(equation, *inputs)).astype(dtype, copy=False)

    return kernel


def _layer_normalization(op: Op) -> Kernel:
    axis, outputs = op.integer("axis", -1), op.outputs
    epsilon = op.real("epsilon", 1e-5)
    stash = _stash_type(op)

    def kernel(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Any:
        wide = _widened(x)
        axes = tuple(range(axis % x.ndim, x.ndim))
        mean = np.mean(wide, axes, keepdims=True)
        y = wide - mean
        deviation = _inverse_root(np.mean(y * y, axes, keepdims=True), epsilon)
        np.multiply(y, deviation, y)
        y = y * scale
        if bias is not None:
            y = y + bias
        y = y.astype(x.dtype, copy=False)
        if outputs == 1:
            return y
        return (y, mean.astype(stash), deviation.astype(stash))[:outputs]

    return kernel


def _rms_normalization(op: Op) -> Kernel:
    axis = op.integer("axis", -1)
    epsilon = op.real("epsilon", 1e-5)
    _stash_type(op)

    def kernel(x: Tensor, scale: Tensor) -> Tensor:
        wide = _widened(x)
        axes = tuple(range(axis % x.ndim, x.ndim))
        y = wide * _inverse_root(np.mean(wide * wide, axes, keepdims=True), epsilon)
        return (y * scale).astype(x.dtype, copy=False)

    return kernel


def _stash_type(op: Op) -> np.dtype[Any]:
    stash = dtype_of(op, "stash_type", 1)
    if stash not in {np.dtype(np.float32), np.dtype(np.float64)}:
        raise op.bad("stash_type", "1 (float32) or 11 (float64)")
    return stash


def _batch_normalization(op: Op) -> Kernel:
    epsilon = op.real("epsilon", 1e-5)
    op.real("momentum", 0.9)  # for training only
    if op.flag("training_mode", default=False):
        raise op.bad("training_mode", "0: this backend infers, models train")
    if op.outputs != 1:
        raise KernelError(
            f"BatchNormalization has {op.outputs} outputs",
            expected="1 output: running means leave only in training mode",
            fix="Take only the first output.",
        )

    def kernel(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        shape = (-1, *(1,) * (x.ndim - 2))
        factor = _widened(scale) * _inverse_root(_widened(var), epsilon)
        shift = _widened(bias) - _widened(mean) * factor
        y: Tensor = _widened(x) * factor.reshape(shape) + shift.reshape(shape)
        return y.astype(x.dtype, copy=False)

    return kernel


def _instance_normalization(op: Op) -> Kernel:
    epsilon = op.real("epsilon", 1e-5)

    def kernel(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        shape = (-1, *(1,) * (x.ndim - 2))
        y = _standardized(_widened(x), tuple(range(2, x.ndim)), epsilon)
        y = y * scale.reshape(shape) + bias.reshape(shape)
        return y.astype(x.dtype, copy=False)

    return kernel


def _group_normalization(op: Op) -> Kernel:
    epsilon = op.real("epsilon", 1e-5)
    groups = op.needed_integer("num_groups")
    _stash_type(op)
    if groups < 1:
        raise op.bad("num_groups", "a positive number")

    def kernel(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        grouped = _widened(x).reshape(x.shape[0], groups, -1)
        y = _standardized(grouped, (2,), epsilon).reshape(x.shape)
        shape = (-1, *(1,) * (x.ndim - 2))
        y = y * scale.reshape(shape) + bias.reshape(shape)
        return y.astype(x.dtype, copy=False)

    return kernel


def _standardized(x: Tensor, axes: tuple[int, ...], epsilon: float) -> Tensor:
    """Return `x` with mean 0 and variance 1 over some axes."""
    y: Tensor = x - np.mean(x, axes, keepdims=True)
    deviation = _inverse_root(np.mean(y * y, axes, keepdims=True), epsilon)
    return np.multiply(y, deviation, y)


def _inverse_root(variance: Tensor, epsilon: float) -> Tensor:
    y: Tensor = variance + epsilon
    np.sqrt(y, y)
    return np.reciprocal(y, y)


def _lp_normalization(op: Op) -> Kernel:
    axis, p = op.integer("axis", -1), op.integer("p", 2)
    if p not in {1, 2}:
        raise op.bad("p", "1 or 2")

    def kernel(x: Tensor) -> Tensor:
        wide = _widened(x)
        if p == 1:
            norm = np.add.reduce(np.absolute(wide), axis, keepdims=True)
        else:
            norm = np.sqrt(np.add.reduce(wide * wide, axis, keepdims=True))
        # Where the norm is zero all elements are, and stay so.
        np.copyto(norm, 1, where=norm == 0)
        return (wide / norm).astype(x.dtype, copy=False)

    return kernel


def _widened(x: Tensor) -> Tensor:
    return x.astype(np.float32) if x.dtype.itemsize < 4 else x


TABLE: Mapping[str, Factory] = {
    "BatchNormalization": _batch_normalization,
    "Einsum": _einsum,
    "Gemm": _gemm,
    "GroupNormalization": _group_normalization,
    "InstanceNormalization": _instance_normalization,
    "LayerNormalization": _layer_normalization,
    "LpNormalization": _lp_normalization,
    "MatMul": fixed(_mat_mul),
    "RMSNormalization": _rms_normalization,
}
