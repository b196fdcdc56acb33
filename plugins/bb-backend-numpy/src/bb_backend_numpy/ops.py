"""Which ops of `ai.onnx` (opset 23) this backend has.

Left out on purpose: convolutions and pools with windows, which belong to an engine built for
them; control flow, sequences, optionals and texts, which are no tensor ops; random numbers, which
only a component's context may draw; and what trains.

Where the standard leaves room, or this backend departs from it:

- `Dropout` and `BatchNormalization` refuse training mode.
- `LayerNormalization` and its like keep float64 where the standard computes in float32.
- An integer to a negative integer power, and an integer mean over no elements, are errors of
  numpy; division of integers by zero gives 0 or a neighbour of it.
- Casts to the `fnuz` 8-bit floats turn infinities into the largest number, as the published cases
  of the standard do; its table says NaN.
- Inputs of differing dtypes, which the standard forbids, are not looked for: numpy promotes.
- What a numpy function raises at run time (shapes that do not broadcast, positions out of range)
  passes through as its `ValueError` or `IndexError`.
"""

from __future__ import annotations

from collections.abc import Mapping

from bb_backend_numpy import (
    _activation,
    _elementwise,
    _index,
    _integer,
    _layers,
    _linear,
    _loss,
    _reduce,
    _shape,
    _signal,
)
from bb_backend_numpy._support import Factory

__all__ = ["SUPPORTED"]

FACTORIES: Mapping[str, Factory] = {
    **_elementwise.TABLE,
    **_activation.TABLE,
    **_reduce.TABLE,
    **_shape.TABLE,
    **_index.TABLE,
    **_linear.TABLE,
    **_layers.TABLE,
    **_loss.TABLE,
    **_integer.TABLE,
    **_signal.TABLE,
}

#: Names of the ops, in order of the alphabet.
SUPPORTED: tuple[str, ...] = tuple(sorted(FACTORIES))
