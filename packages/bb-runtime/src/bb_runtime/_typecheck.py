"""Checks a Python value against a declared type; for the edges of a Node, not for its ops."""

from __future__ import annotations

from typing import Any

from bb_ir.types import Type

__all__ = ["fits"]

_SCALARS = {"int64": int, "float64": (int, float), "bool": bool, "string": str}


def fits(value: Any, declared: Type) -> str:
    """Return what is wrong with a value, or an empty text."""
    kind = declared.kind
    if kind == "tensor":
        return _tensor(value, declared)
    if kind in _SCALARS:
        right = isinstance(value, _SCALARS[kind])  # type: ignore[arg-type]  # a table of types
        right = right and (kind == "bool" or not isinstance(value, bool))
        return "" if right else _named(value)
    if kind == "params":
        from bb_ir.params import ParameterSet

        return "" if isinstance(value, ParameterSet) else _named(value)
    if kind == "peers":
        from bb_ir.ids import PeerId

        right = isinstance(value, (list, tuple)) and all(isinstance(p, PeerId) for p in value)  # type: ignore[reportUnknownVariableType]  # any items
        return "" if right else f"{_named(value)}, not a list of PeerId"
    return ""


def _tensor(value: Any, declared: Type) -> str:
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    if dtype is None or shape is None:
        return f"{_named(value)}, not an array"
    if declared.dtype and str(dtype) != declared.dtype:
        return f"an array of {dtype}"
    if declared.shape is None:
        return ""
    same_rank = len(shape) == len(declared.shape)
    if not same_rank or any(
        isinstance(want, int) and want != have
        for want, have in zip(declared.shape, shape, strict=True)
    ):
        return f"an array of shape {tuple(shape)}"
    return ""


def _named(value: Any) -> str:
    return f"a {type(value).__name__}"
