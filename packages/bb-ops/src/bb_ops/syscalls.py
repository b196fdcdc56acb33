"""Framework ops that need nothing but their inputs."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

__all__ = ["calculate", "field", "pass_through", "record", "scalar"]


def pass_through(value: Any) -> Any:
    """Return the value."""
    return value


def field(values: Mapping[str, Any], *, name: str) -> Any:
    """Return one field of a record.

    Raises:
        KeyError: The record has no such field.
    """
    if name not in values:
        raise KeyError(f"the record has no field {name!r}; it has {', '.join(values)}")
    return values[name]


def record(*values: Any, names: list[str]) -> dict[str, Any]:
    """Return a record of the values under their names."""
    return dict(zip(names, values, strict=True))


def scalar(*, value: Any) -> int | float | bool | str:
    """Return a number, truth value or text; `value` is the text, or an array of rank zero."""
    found: int | float | bool | str = value if isinstance(value, str) else value.item()
    return found


def calculate(*operands: Any, how: str) -> Any:
    """Return the result of arithmetic, a comparison or logic on plain numbers, texts and truths.

    Raises:
        TypeError: The operands are no such values.
        ZeroDivisionError: A number is divided by zero.
        OverflowError: A whole number does not fit into 64 bits.
    """
    result = _CALCULATIONS[how](*operands)
    whole = isinstance(result, int) and not isinstance(result, bool)
    if whole and not -(2**63) <= result < 2**63:
        raise OverflowError(f"{how} of {', '.join(map(str, operands))} does not fit into int64")
    if how in _TRUTHS and not isinstance(result, bool):
        kinds = " and ".join(type(one).__name__ for one in operands)
        raise TypeError(f"{how} of {kinds} is no truth value; compare tensors on a Backend")
    return result


#: How a calculation is called -> the function of `operator` that carries it out.
_OPERATORS: Mapping[str, str] = MappingProxyType(
    {
        "add": "add", "subtract": "sub", "multiply": "mul", "divide": "truediv", "modulo": "mod",
        "power": "pow", "equal": "eq", "less": "lt", "less_or_equal": "le", "greater": "gt",
        "greater_or_equal": "ge", "and": "and_", "or": "or_", "not": "not_",
    }
)  # fmt: skip
_CALCULATIONS: dict[str, Callable[..., Any]] = {
    how: getattr(operator, name) for how, name in _OPERATORS.items()
}
_TRUTHS = frozenset(_CALCULATIONS) - {"add", "subtract", "multiply", "divide", "modulo", "power"}
