"""Ops that work element by element: arithmetic, comparison, logic, casts.

Inputs broadcast against each other in both directions. Results keep the dtype of the inputs;
numpy's own promotion is used only where it agrees with the standard. Activations stand in
`_activation.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bb_backend_numpy._erf import erf
from bb_backend_numpy._op import Op
from bb_backend_numpy._support import Factory, Tensor, binary, dtype_of, fixed, unary
from bb_roles.contracts import Kernel

__all__ = ["TABLE"]

_asarray = np.asarray
#: The largest finite number of each 8-bit float.
_LARGEST = {
    "float8_e4m3fn": 448.0,
    "float8_e4m3fnuz": 240.0,
    "float8_e5m2": 57344.0,
    "float8_e5m2fnuz": 57344.0,
}


def _div(a: Tensor, b: Tensor) -> Tensor:
    y: Any = _divide_integers(a, b) if a.dtype.kind in "iu" else np.true_divide(a, b)
    return y if type(y) is np.ndarray else _asarray(y)


def _divide_integers(a: Tensor, b: Tensor) -> Tensor:
    """Divide and round towards zero, where numpy rounds down; exact for all 64 bits."""
    quotient = _asarray(np.floor_divide(a, b))
    if a.dtype.kind == "u":
        return quotient
    rounded_wrong = (quotient * b != a) & ((a < 0) != (b < 0))
    np.add(quotient, rounded_wrong, quotient)
    return quotient


def _mod(op: Op) -> Kernel:
    truncates = op.flag("fmod", default=False)
    return binary(np.fmod if truncates else np.remainder)(op)


def _pow(a: Tensor, b: Tensor) -> Tensor:
    y = np.power(a, b)
    if y.dtype != a.dtype:
        y = y.astype(a.dtype)
    return y if type(y) is np.ndarray else _asarray(y)


def _bit_shift(op: Op) -> Kernel:
    direction = op.choice("direction", "", "LEFT", "RIGHT")
    if not direction:
        raise op.bad("direction", "'LEFT' or 'RIGHT'")
    return binary(np.left_shift if direction == "LEFT" else np.right_shift)(op)


def _is_inf(op: Op) -> Kernel:
    negative = op.flag("detect_negative", default=True)
    positive = op.flag("detect_positive", default=True)
    if negative and positive:
        return unary(np.isinf)(op)
    infinity = np.inf if positive else -np.inf

    def kernel(x: Tensor) -> Tensor:
        return _asarray(x == infinity)

    def never(x: Tensor) -> Tensor:
        return np.zeros(x.shape, np.bool_)

    return kernel if negative or positive else never


def _clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    y: Any = x
    if low is not None:
        y = np.maximum(y, low)
    if high is not None:
        y = np.minimum(y, high)
    return y if type(y) is np.ndarray else _asarray(y)


def _variadic(ufunc: Callable[[Tensor, Tensor], Any]) -> Factory:
    """Make the factory of an op that folds any number of inputs with one numpy function."""

    def kernel(first: Tensor, *others: Tensor) -> Tensor:
        y: Any = first
        for other in others:
            y = ufunc(y, other)
        return y if type(y) is np.ndarray else _asarray(y)

    return fixed(kernel)


def _mean(first: Tensor, *others: Tensor) -> Tensor:
    if not others:
        return first
    total = _asarray(np.add(first, others[0]))
    for other in others[1:]:
        total = _asarray(np.add(total, other))
    # A second write to `total` is safe: the first addition made it.
    np.true_divide(total, np.array(len(others) + 1, total.dtype), total)
    return total


def _cast(op: Op) -> Kernel:
    if not op.has("to"):
        raise op.bad("to", "a number of TensorProto.DataType")
    dtype = dtype_of(op, "to", 0)
    saturates = op.flag("saturate", default=True)
    if saturates and dtype.name.startswith("float8"):
        return lambda x: _saturate(x, dtype)
    return lambda x: x.astype(dtype, copy=False)


def _cast_like(op: Op) -> Kernel:
    saturates = op.flag("saturate", default=True)

    def kernel(x: Tensor, like: Tensor) -> Tensor:
        dtype = like.dtype
        if saturates and dtype.itemsize == 1 and dtype.name.startswith("float8"):
            return _saturate(x, dtype)
        return x.astype(dtype, copy=False)

    return kernel


def _saturate(x: Tensor, dtype: np.dtype[Any]) -> Tensor:
    """Cast to an 8-bit float; what is too large becomes the largest finite number.

    Infinities do too, also in the `fnuz` formats: the standard's table has NaN there, its published
    cases and its reference implementation have the largest number, and those are followed.
    """
    if x.dtype == dtype:
        return x
    wide = x if x.dtype == np.float64 else x.astype(np.float32)
    limit = _LARGEST[dtype.name]
    bounded = _asarray(np.minimum(np.maximum(wide, -limit), limit))
    return bounded.astype(dtype)


TABLE: Mapping[str, Factory] = {
    "Abs": unary(np.absolute),
    "Acos": unary(np.arccos),
    "Acosh": unary(np.arccosh),
    "Add": binary(np.add),
    "And": binary(np.logical_and),
    "Asin": unary(np.arcsin),
    "Asinh": unary(np.arcsinh),
    "Atan": unary(np.arctan),
    "Atanh": unary(np.arctanh),
    "BitShift": _bit_shift,
    "BitwiseAnd": binary(np.bitwise_and),
    "BitwiseNot": unary(np.bitwise_not),
    "BitwiseOr": binary(np.bitwise_or),
    "BitwiseXor": binary(np.bitwise_xor),
    "Cast": _cast,
    "CastLike": _cast_like,
    "Ceil": unary(np.ceil),
    "Clip": fixed(_clip),
    "Cos": unary(np.cos),
    "Cosh": unary(np.cosh),
    "Div": fixed(_div),
    "Equal": binary(np.equal),
    "Erf": fixed(erf),
    "Exp": unary(np.exp),
    "Floor": unary(np.floor),
    "Greater": binary(np.greater),
    "GreaterOrEqual": binary(np.greater_equal),
    "IsInf": _is_inf,
    "IsNaN": unary(np.isnan),
    "Less": binary(np.less),
    "LessOrEqual": binary(np.less_equal),
    "Log": unary(np.log),
    "Max": _variadic(np.maximum),
    "Mean": fixed(_mean),
    "Min": _variadic(np.minimum),
    "Mod": _mod,
    "Mul": binary(np.multiply),
    "Neg": unary(np.negative),
    "Not": unary(np.logical_not),
    "Or": binary(np.logical_or),
    "Pow": fixed(_pow),
    "Reciprocal": unary(np.reciprocal),
    "Round": unary(np.rint),
    "Sign": unary(np.sign),
    "Sin": unary(np.sin),
    "Sinh": unary(np.sinh),
    "Sqrt": unary(np.sqrt),
    "Sub": binary(np.subtract),
    "Sum": _variadic(np.add),
    "Tan": unary(np.tan),
    "Where": fixed(np.where),
    "Xor": binary(np.logical_xor),
}
