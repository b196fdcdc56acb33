"""What aggregators of all kinds need to keep a round: exact metrics, keys that can be written.

`folding` and `collecting` use it; plugins use those.
"""

from __future__ import annotations

import ast
from collections.abc import Hashable
from typing import Final, cast

import numpy as np

from bb_ir.params import Layout
from bb_roles.folding.errors import RoundKeyError

__all__ = ["METRIC_BITS", "differing", "exact", "is_float", "key_text"]

#: Every finite binary64 is an integer multiple of 2**-1074.
METRIC_BITS: Final = 1074


def is_float(value: object) -> bool:
    """Tell whether a metric is one that is averaged."""
    return isinstance(value, float | np.floating)


def exact(value: float) -> int:
    """Return a finite float in units of 2**-1074."""
    numerator, denominator = value.as_integer_ratio()
    return numerator << (METRIC_BITS + 1 - denominator.bit_length())


def key_text(key: Hashable) -> str:
    """Return a round's key as a Python literal.

    Raises:
        RoundKeyError: It is not made of numbers, texts, bytes and tuples of them.
    """
    text = repr(_plain(key))
    try:
        same = ast.literal_eval(text) == key
    except (ValueError, SyntaxError):
        same = False
    if not same:
        raise RoundKeyError(
            f"the round {key!r} cannot be saved",
            expected="a key of numbers, texts, bytes and tuples of them",
            fix="save when no round is in flight",
        )
    return text


def _plain(key: Hashable) -> Hashable:
    """Return a key with plain tuples for named ones, such as names of frames: it is equal."""
    if not isinstance(key, tuple):
        return key
    return tuple(map(_plain, cast("tuple[Hashable, ...]", key)))


def differing(given: Layout, expected: Layout) -> str:
    """Say in words how a layout differs from the one that is expected."""
    ours = dict(
        zip(expected.names, zip(expected.dtypes, expected.shapes, strict=True), strict=True)
    )
    for name, dtype, shape in zip(given.names, given.dtypes, given.shapes, strict=True):
        if ours.get(name) != (dtype, shape):
            return f"tensor {name!r} of {dtype}{list(shape)}"
    if set(ours) - set(given.names):
        return f"no tensor {min(set(ours) - set(given.names))!r}"
    return "the same tensors in another order, or with other metadata"
