"""Values in one line: what they are, how large, and what is in them."""

from __future__ import annotations

from typing import Any, cast

__all__ = ["cut", "text_of"]

#: Values with so many elements or fewer are printed.
_SMALL = 8
_LONG = 120


def text_of(value: Any) -> str:
    """Return a value in one line: its type, its shape, and its numbers or a summary of them."""
    from bb_ir.params import ParameterSet

    if isinstance(value, ParameterSet):
        summary = ", ".join(_numbers(value.flat(dtype)) for dtype in value.dtypes)
        tensors = ", ".join(f"{name} {_shape(array)}" for name, array in value.items())
        return cut(f"params of {value.count:,} elements{summary}: {tensors}")
    if getattr(value, "shape", None) is not None and hasattr(value, "dtype"):
        held = f" = {value.tolist()}" if value.size <= _SMALL else _numbers(value)
        return cut(f"{_shape(value)}{held}")
    return cut(f"{type(value).__name__} {value!r}")


def cut(text: object) -> str:
    """Return the beginning of a text that is too long for a line."""
    line = str(text)
    return line if len(line) <= _LONG else f"{line[: _LONG - 3]}..."


def _shape(array: Any) -> str:
    return f"{array.dtype}{list(cast('tuple[int, ...]', array.shape))}"


def _numbers(array: Any) -> str:
    """Return least, mean and greatest of numbers, and how many are none; else nothing."""
    import numpy as np

    if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
        return ""
    numbers = np.asarray(array, dtype=np.float64)
    finite = numbers[np.isfinite(numbers)]
    other = numbers.size - finite.size
    odd = f", {other:,} not finite" if other else ""
    if not finite.size:
        return odd
    return f", {finite.min():.4g} to {finite.max():.4g}, mean {finite.mean():.4g}{odd}"
