"""Makes what crosses the edge of a frame read-only, without a copy.

A view with `writeable = False` can be made writable again by whoever holds it; one over a
read-only buffer cannot.
"""

from __future__ import annotations

from typing import Any, cast

__all__ = ["frozen"]


def frozen(value: Any) -> Any:
    """Return a value whose arrays cannot be written by its receiver; containers are new ones."""
    kind: type = type(value)  # pyright: ignore[reportUnknownVariableType]  # of anything
    if kind is dict:
        return {key: frozen(item) for key, item in cast("dict[Any, Any]", value).items()}
    if kind is list:
        return [frozen(item) for item in cast("list[Any]", value)]
    if kind is tuple:
        return tuple(frozen(item) for item in cast("tuple[Any, ...]", value))
    # Of the class: that of an array would be made for the answer.
    if hasattr(kind, "__array_interface__") and hasattr(kind, "setflags"):
        return _read_only(value)
    return value


def _read_only(array: Any) -> Any:
    import numpy as np

    if not array.flags.writeable:
        return array
    try:
        return np.asarray(memoryview(array).toreadonly())
    except (ValueError, TypeError, BufferError):  # an element type that buffers do not know
        view = array.view()
        view.flags.writeable = False
        return view
