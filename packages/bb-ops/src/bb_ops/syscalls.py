"""Framework ops that need nothing but their inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["field", "pass_through", "record", "scalar"]


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
