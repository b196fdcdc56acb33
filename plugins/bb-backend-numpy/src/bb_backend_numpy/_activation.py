"""Activations.

Formulas are stable: for inputs up to 1e12 in size no step overflows where the result is finite.
Small results of `Sigmoid` and of the softmaxes keep their relative precision; those of `Gelu` far
below zero are right to the last place of 1, no better. 16-bit floats are computed in float32 and
rounded once. `Dropout` stands here too; it can only infer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bb_backend_numpy._erf import erf
from bb_backend_numpy._op import Op
from bb_backend_numpy._support import Factory, Tensor, fixed, unary, widened
from bb_backend_numpy.errors import KernelError
from bb_roles.contracts import Kernel

__all__ = ["TABLE"]

_asarray = np.asarray
#: The largest number whose exponential is finite, by the size of the float.
_EXP_LIMIT = {4: 88.72, 8: 709.78}
#: The standard defines HardSwish by an attribute of HardSigmoid, and those are float32.
_SIXTH = float(np.float32(1 / 6))


def _relu(x: Tensor) -> Tensor:
    y = np.maximum(x, 0)
    if y.dtype != x.dtype:
        y = y.astype(x.dtype)
    return y if type(y) is np.ndarray else _asarray(y)


def _leaky_relu(op: Op) -> Kernel:
    alpha = op.real("alpha", 0.01)

    def monotone(x: Tensor) -> Tensor:
        y = _scaled(x, alpha)
        np.maximum(x, y, out=y)
        return y

    def general(x: Tensor) -> Tensor:
        return np.where(x < 0, _scaled(x, alpha), x)

    return widened(monotone if 0 < alpha <= 1 else general)


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return np.where(x < 0, x * slope, x)


def _thresholded_relu(op: Op) -> Kernel:
    alpha = op.real("alpha", 1.0)
    return widened(lambda x: np.where(x > alpha, x, x.dtype.type(0)))


def _shrink(op: Op) -> Kernel:
    bias, edge = op.real("bias", 0.0), op.real("lambd", 0.5)

    def kernel(x: Tensor) -> Tensor:
        shifted = np.where(x < -edge, x + bias, np.where(x > edge, x - bias, 0))
        return shifted.astype(x.dtype, copy=False)

    return kernel


def _elu(op: Op) -> Kernel:
    alpha = op.real("alpha", 1.0)
    return widened(lambda x: _exponential_unit(x, alpha, 1.0))


def _selu(op: Op) -> Kernel:
    alpha = op.real("alpha", 1.67326319217681884765625)
    gamma = op.real("gamma", 1.05070102214813232421875)
    return widened(lambda x: _exponential_unit(x, alpha, gamma))


def _exponential_unit(x: Tensor, alpha: float, gamma: float) -> Tensor:
    """Return `gamma * x` above zero and `gamma * alpha * (exp(x) - 1)` below."""
    y = np.minimum(x, 0, out=np.empty_like(x))
    np.expm1(y, y)
    np.multiply(y, alpha, y)
    np.add(y, np.maximum(x, 0), y)
    np.multiply(y, gamma, y)
    return y


def _celu(op: Op) -> Kernel:
    alpha = op.real("alpha", 1.0)
    if alpha == 0:
        raise op.bad("alpha", "a number other than 0, for it divides")

    def compute(x: Tensor) -> Tensor:
        y = _scaled(x, 1 / alpha)
        np.expm1(np.minimum(y, 0, out=y) if alpha > 0 else y, y)
        np.multiply(y, alpha, y)
        np.minimum(y, 0, out=y)
        np.add(y, np.maximum(x, 0), y)
        return y

    return widened(compute)


def _sigmoid(x: Tensor) -> Tensor:
    y = _asarray(np.negative(x))
    np.minimum(y, _EXP_LIMIT[y.itemsize], out=y)
    np.exp(y, y)
    np.add(y, 1, y)
    np.reciprocal(y, y)
    return y


def _hard_sigmoid(op: Op) -> Kernel:
    alpha, beta = op.real("alpha", 0.2), op.real("beta", 0.5)
    return widened(lambda x: _ramp(x, alpha, beta))


def _hard_swish(x: Tensor) -> Tensor:
    y = _ramp(x, _SIXTH, 0.5)
    np.multiply(y, x, y)
    return y


def _ramp(x: Tensor, alpha: float, beta: float) -> Tensor:
    """Return `alpha * x + beta`, cut at 0 and 1."""
    y = _scaled(x, alpha)
    np.add(y, beta, y)
    np.maximum(y, 0, out=y)
    np.minimum(y, 1, out=y)
    return y


def _softplus(x: Tensor) -> Tensor:
    return _asarray(np.logaddexp(x, x.dtype.type(0)))


def _softsign(x: Tensor) -> Tensor:
    y = _asarray(np.absolute(x))
    np.add(y, 1, y)
    np.divide(x, y, y)
    return y


def _mish(x: Tensor) -> Tensor:
    y = _softplus(x)
    np.tanh(y, y)
    np.multiply(x, y, y)
    return y


def _gelu(op: Op) -> Kernel:
    if op.choice("approximate", "none", "tanh") == "tanh":
        return widened(_gelu_tanh)
    return widened(_gelu_erf)


def _gelu_erf(x: Tensor) -> Tensor:
    y = erf(_scaled(x, math.sqrt(0.5)))
    np.add(y, 1, y)
    np.multiply(y, 0.5, y)
    np.multiply(x, y, y)
    return y


def _gelu_tanh(x: Tensor) -> Tensor:
    y = _asarray(np.multiply(x, x))
    np.multiply(y, 0.044715, y)
    np.add(y, 1, y)
    np.multiply(y, x, y)
    np.multiply(y, math.sqrt(2 / math.pi), y)
    np.tanh(y, y)
    np.add(y, 1, y)
    np.multiply(y, 0.5, y)
    np.multiply(x, y, y)
    return y


def _along_axis(compute: Callable[[Tensor, int], Tensor]) -> Factory:
    """Make the factory of an op with the one attribute `axis`."""

    def factory(op: Op) -> Kernel:
        axis = op.integer("axis", -1)

        def kernel(x: Tensor) -> Tensor:
            dtype = x.dtype
            if not x.size:
                return x
            if dtype.itemsize < 4:
                return compute(x.astype(np.float32), axis).astype(dtype)
            return compute(x, axis)

        return kernel

    return factory


def _softmax(x: Tensor, axis: int) -> Tensor:
    y: Tensor = np.subtract(x, np.maximum.reduce(x, axis, keepdims=True))
    np.exp(y, y)
    np.divide(y, np.add.reduce(y, axis, keepdims=True), y)
    return y


def _log_softmax(x: Tensor, axis: int) -> Tensor:
    y: Tensor = np.subtract(x, np.maximum.reduce(x, axis, keepdims=True))
    total: Tensor = np.add.reduce(np.exp(y), axis, keepdims=True)
    np.subtract(y, np.log(total, total), y)
    return y


def _hardmax(x: Tensor, axis: int) -> Tensor:
    y = np.zeros(x.shape, x.dtype)
    np.put_along_axis(y, x.argmax(axis, keepdims=True), 1, axis)
    return y


def _dropout(op: Op) -> Kernel:
    op.integer("seed", 0)

    def infer(x: Tensor, _ratio: Any = None, training_mode: Tensor | None = None) -> Tensor:
        if training_mode is not None and training_mode.any():
            raise KernelError(
                "Dropout was asked to drop: its input training_mode is true",
                expected="training_mode false or left out; this backend draws no random numbers",
                fix="Train inside a model component, or leave training_mode out.",
            )
        return x

    def with_mask(
        x: Tensor, _ratio: Any = None, training_mode: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        return infer(x, _ratio, training_mode), np.ones(x.shape, np.bool_)

    return infer if op.outputs == 1 else with_mask


def _scaled(x: Tensor, factor: float) -> Tensor:
    """Return `x * factor` in the dtype of `x`, as a fresh array also at rank zero."""
    y = np.empty_like(x)
    np.multiply(x, factor, y)
    return y


TABLE: Mapping[str, Factory] = {
    "Celu": _celu,
    "Dropout": _dropout,
    "Elu": _elu,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": fixed(widened(_hard_swish)),
    "Hardmax": _along_axis(_hardmax),
    "LeakyRelu": _leaky_relu,
    "LogSoftmax": _along_axis(_log_softmax),
    "Mish": fixed(widened(_mish)),
    "PRelu": fixed(_prelu),
    "Relu": fixed(_relu),
    "Selu": _selu,
    "Shrink": _shrink,
    "Sigmoid": fixed(widened(_sigmoid)),
    "Softmax": _along_axis(_softmax),
    "Softplus": fixed(widened(_softplus)),
    "Softsign": fixed(widened(_softsign)),
    "Tanh": unary(np.tanh),
    "ThresholdedRelu": _thresholded_relu,
}
