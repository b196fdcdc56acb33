"""Checks a Python value against a declared type; for the edges of a Node, not for its ops."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import cache
from typing import Any, cast

from bb_ir.errors import did_you_mean
from bb_ir.ids import PeerId
from bb_ir.types import ANY, Type, accepts
from bb_ir.values import NO_CODECS, Codecs
from bb_runtime.artifact import Target
from bb_runtime.errors import InvalidInput

__all__ = ["check_inputs", "fits"]

_SCALARS: Mapping[str, tuple[type, ...]] = {
    "int64": (int,),
    "float64": (int, float),
    "bool": (bool,),
    "string": (str,),
}


def check_inputs(target: Target, given: Mapping[str, Any], codecs: Codecs) -> None:
    """Check what an invocation of a target gives.

    Raises:
        InvalidInput: It is not what the target declares.
    """
    if given.keys() ^ target.inputs:
        missing = [name for name in target.inputs if name not in given]
        unknown = [name for name in given if name not in target.inputs]
        declared = ", ".join(f"{n}: {target.types.get(n, ANY)}" for n in target.inputs)
        raise InvalidInput(
            f"inputs of {target.short}: missing {missing or 'none'}, unknown {unknown or 'none'}",
            expected=declared or "no inputs",
            fix=did_you_mean(unknown[0], missing) if unknown else "",
        )
    for name, value in given.items():
        declared_type = target.types.get(name, ANY)
        wrong = fits(value, declared_type, codecs)
        if wrong:
            raise InvalidInput(
                f"input {name!r} of {target.short} is {wrong}", expected=str(declared_type)
            )


def fits(value: Any, declared: Type, codecs: Codecs = NO_CODECS) -> str:
    """Return what is wrong with a value, or an empty text.

    Args:
        value: The value.
        declared: What it should be.
        codecs: Codecs of the types of plugins that the type mentions; they know their values.
    """
    check = _CHECKS.get(declared.kind)
    if check is not None:
        return check(value, declared)
    nested = _NESTED.get(declared.kind)
    return "" if nested is None else nested(value, declared, codecs)


def _scalar(value: Any, declared: Type) -> str:
    plain = value.item() if getattr(value, "shape", None) == () else value
    right = isinstance(plain, _SCALARS[declared.kind])
    if isinstance(plain, bool) and declared.kind != "bool":
        right = False
    return "" if right else _named(value)


def _tensor(value: Any, declared: Type) -> str:
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    if dtype is None or shape is None:
        return f"{_named(value)}, not an array"
    if declared.dtype and _dtype_name(dtype) != declared.dtype:
        return f"an array of {dtype}"
    if declared.shape is None:
        return ""
    if len(shape) != len(declared.shape):
        return f"an array of shape {tuple(shape)}"
    for want, have in zip(declared.shape, shape, strict=True):
        if want != have and isinstance(want, int):
            return f"an array of shape {tuple(shape)}"
    return ""


def _params(value: Any, declared: Type) -> str:
    from bb_ir.params import ParameterSet

    if not isinstance(value, ParameterSet):
        return _named(value)
    held = value.layout.type
    return "" if accepts(declared, held) else f"a parameter set of type {held}"


def _peers(value: Any, _: Type) -> str:
    items = cast("list[Any]", value) if isinstance(value, (list, tuple)) else None
    if items is None or not all(isinstance(item, PeerId) for item in items):
        return f"{_named(value)}, not a list of PeerId"
    return ""


def _bytes(value: Any, _: Type) -> str:
    return "" if isinstance(value, (bytes, bytearray, memoryview)) else _named(value)


def _custom(value: Any, declared: Type, codecs: Codecs) -> str:
    codec = codecs.get(declared.of)
    return "" if codec is None or codec.accepts(value) else _named(value)


def _list(value: Any, declared: Type, codecs: Codecs) -> str:
    if not isinstance(value, (list, tuple)):
        return f"{_named(value)}, not a list"
    wanted = declared.items[0][1] if declared.items else None
    for at, item in enumerate(cast("list[Any]", value)):
        wrong = fits(item, wanted, codecs) if wanted is not None else ""
        if wrong:
            return f"a list whose item {at} is {wrong}"
    return ""


def _record(value: Any, declared: Type, codecs: Codecs) -> str:
    if not isinstance(value, Mapping):
        return f"{_named(value)}, not a mapping"
    fields = cast("Mapping[str, Any]", value)
    for name, wanted in declared.items or ():
        wrong = fits(fields[name], wanted, codecs) if name in fields else "missing"
        if wrong:
            return f"a record whose field {name!r} is {wrong}"
    return ""


@cache
def _dtype_name(dtype: Hashable) -> str:
    return str(dtype)  # numpy takes 3 us to write one


def _named(value: Any) -> str:
    return f"a {type(value).__name__}"


_CHECKS: Mapping[str, Callable[[Any, Type], str]] = {
    "tensor": _tensor,
    "params": _params,
    "peers": _peers,
    "bytes": _bytes,
    **dict.fromkeys(_SCALARS, _scalar),
}
_NESTED: Mapping[str, Callable[[Any, Type, Codecs], str]] = {
    "custom": _custom,
    "list": _list,
    "record": _record,
}
