"""Plain data: numbers, texts, bytes, `None`, and lists and records of these.

What counts as which kind is decided here, for a port of its own as for a field of a record. The
bytes of lists and records are a protobuf `Value`; its depth and size are bounded both ways, so
that neither a stranger's message nor a list that contains itself runs away. An integer that the
type declares takes 8 bytes whatever it is, so that the bytes of a record of declared numbers
follow from its type. `bb_ir.values` is the public side of this module.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final, cast

from google.protobuf.message import DecodeError

from bb_ir._proto.core_pb2 import Null, Value
from bb_ir.errors import WireError
from bb_ir.types import ANY, Type

__all__ = [
    "MAX_PLAIN_BYTES",
    "MAX_PLAIN_DEPTH",
    "names_of",
    "read_plain",
    "to_bool",
    "to_bytes",
    "to_float64",
    "to_int64",
    "to_text",
    "unlike",
    "write_plain",
    "wrong",
]

#: Longest list or record, in encoded bytes.
MAX_PLAIN_BYTES: Final = 1 << 20
#: Deepest nesting of lists and records; a record of numbers is one level deep.
MAX_PLAIN_DEPTH: Final = 16

_INT64_RANGE: Final = range(-(1 << 63), 1 << 63)
_SHOWN: Final = 40

#: Which field of `Value` carries which kind of type.
_FIELDS: Final = {
    "int64": "whole", "float64": "real", "bool": "boolean", "string": "text", "bytes": "data",
    "trigger": "null", "list": "list", "record": "record",
}  # fmt: skip

#: What Python's types are where nothing was declared; a bool comes before the int it also is.
_KINDS: Final[tuple[tuple[type | tuple[type, ...], str], ...]] = (
    (bool, "bool"),
    (int, "int64"),
    (float, "float64"),
    (str, "string"),
    ((bytes, bytearray, memoryview), "bytes"),
    (type(None), "trigger"),
    ((list, tuple), "list"),
    (Mapping, "record"),
)

#: The common case of the same, without looking at base classes.
_EXACT: Final[dict[type, str]] = {
    bool: "bool",
    int: "int64",
    float: "float64",
    str: "string",
    bytes: "bytes",
    list: "list",
    dict: "record",
}


# --- errors ----------------------------------------------------------------------------------


def unlike(declared: Type, found: str) -> WireError:
    """Say that something is no value of the port."""
    return WireError(f"{found}, which is no value of the port", expected=str(declared))


def wrong(value: object, declared: Type, path: str = "The value") -> WireError:
    """Say that the sender's value has another type than the port."""
    shown = repr(value) if isinstance(value, (bool, int, float, str, bytes)) else ""
    shown = f"{shown[:_SHOWN]}..." if len(shown) > _SHOWN else shown
    return WireError(
        f"{path} is of type {type(value).__name__} {shown}".rstrip(),
        expected=str(declared),
        fix="ParameterSet.from_tensors(value) makes a parameter set of named arrays."
        if declared.kind == "params" and isinstance(value, Mapping)
        else "Send a value of the declared type, or declare the type that is sent.",
    )


def _too_large(found: str, declared: Type) -> WireError:
    return WireError(
        f"The {declared.kind} takes {found}",
        expected=f"at most {MAX_PLAIN_BYTES} bytes",
        fix="Send large data as a tensor, a parameter set or bytes.",
    )


def _not_plain(value: object, declared: Type, path: str) -> WireError:
    plain = "numbers, texts, bytes, None, lists and records of these"
    if declared.kind == "any":
        return WireError(
            f"{path} is of type {type(value).__name__}, which is no plain data",
            expected=plain,
            fix="Convert it, an array with `tolist()`, or send it through its own port.",
        )
    return WireError(
        f"{path} is declared as {declared}, which no list or record can carry",
        expected=plain,
        fix="Send it through its own port.",
    )


# --- one value -------------------------------------------------------------------------------


def _python(value: object) -> object:
    """Turn a numpy scalar or 0-dimensional array of numbers into a Python number."""
    if type(value) in _EXACT:
        return value
    numpy: Any = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, (numpy.generic, numpy.ndarray)):
        return value
    array: Any = value
    return array.item() if array.ndim == 0 and array.dtype.kind in "biuf" else array


def to_int64(value: object, declared: Type, path: str = "The value") -> int:
    """Return an integer within 64 bits; a bool is none."""
    number = _python(value)
    if isinstance(number, bool) or not isinstance(number, int) or number not in _INT64_RANGE:
        raise wrong(number, declared, path)
    return int(number)


def to_float64(value: object, declared: Type, path: str = "The value") -> float:
    """Return a binary64; integers count, a bool does not."""
    number = _python(value)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise wrong(number, declared, path)
    try:
        return float(number)
    except OverflowError as error:
        raise unlike(declared, f"{path} is an integer beyond the range of binary64") from error


def to_bool(value: object, declared: Type, path: str = "The value") -> bool:
    """Return a truth value; a number is none."""
    truth = _python(value)
    if not isinstance(truth, bool):
        raise wrong(truth, declared, path)
    return truth


def to_text(value: object, declared: Type, path: str = "The value") -> str:
    """Return a text that UTF-8 can write."""
    if not isinstance(value, str):
        raise wrong(value, declared, path)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise wrong(value, declared, path) from error
    return str(value)


def to_bytes(value: object, declared: Type, path: str = "The value") -> bytes | memoryview:
    """Return bytes as they are, and other buffers as a read-only view of bytes."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, (bytearray, memoryview)):
        raise wrong(value, declared, path)
    view = memoryview(cast("bytearray", value))
    if not view.nbytes or not view.c_contiguous:
        return view.tobytes()
    return view.cast("B").toreadonly()


# --- writing lists and records ---------------------------------------------------------------


def write_plain(value: object, declared: Type) -> bytes:
    """Return the bytes of a list or record.

    Raises:
        WireError: It is not of the declared type, is no plain data, too deep or too large.
    """
    message = Value()
    _write(message, value, declared, "The value", 0)
    size = message.ByteSize()
    if size > MAX_PLAIN_BYTES:
        raise _too_large(f"{size} bytes", declared)
    return message.SerializeToString()


def _write(message: Value, value: object, declared: Type, path: str, depth: int) -> None:
    exact = _EXACT.get(type(value))
    if exact is None:
        value = _python(value)
    kind = (exact or _kind_of(value)) if declared.kind == "any" else declared.kind
    if depth > MAX_PLAIN_DEPTH:
        raise WireError(f"{path} lies too deep", expected=f"at most {MAX_PLAIN_DEPTH} levels")
    if kind == "int64" and declared.kind == "int64":
        message.whole = to_int64(value, declared, path)
    elif kind == "int64":
        message.integer = to_int64(value, declared, path)
    elif kind == "float64":
        message.real = to_float64(value, declared, path)
    elif kind == "bool":
        message.boolean = to_bool(value, declared, path)
    elif kind == "string":
        message.text = to_text(value, declared, path)
    elif kind == "bytes":
        message.data = bytes(to_bytes(value, declared, path))
    elif kind == "trigger":
        message.null = Null.NULL
    elif kind == "list":
        _write_list(message, value, declared, path, depth)
    elif kind == "record":
        _write_record(message, value, declared, path, depth)
    else:
        raise _not_plain(value, declared, path)


def _kind_of(value: object) -> str:
    return next((kind for python, kind in _KINDS if isinstance(value, python)), "")


def _write_list(message: Value, value: object, declared: Type, path: str, depth: int) -> None:
    if not isinstance(value, (list, tuple)):
        raise wrong(value, declared, path)
    found = cast("list[object]", value)
    if len(found) > MAX_PLAIN_BYTES // 2:  # one item takes two bytes at least
        raise _too_large(f"{len(found)} items", declared)
    message.list.SetInParent()
    items = message.list.items
    for index, item in enumerate(found):
        _write(items.add(), item, _item(declared), f"{path}[{index}]", depth + 1)


def _write_record(message: Value, value: object, declared: Type, path: str, depth: int) -> None:
    if type(value) is not dict and not isinstance(value, Mapping):
        raise wrong(value, declared, path)
    found = cast("Mapping[object, object]", value)
    message.record.SetInParent()
    fields = message.record.fields
    for key in names_of(found, declared, path):
        name = to_text(key, declared, f"A name in {path}")
        field = fields.add(name=name)
        _write(field.value, found[key], _field(declared, name), f"{path}.{name}", depth + 1)


def _item(declared: Type) -> Type:
    return declared.items[0][1] if declared.items else ANY


def _field(declared: Type, name: str) -> Type:
    return declared.field(name) or ANY


def names_of(found: Mapping[Any, object], declared: Type, path: str) -> list[Any]:
    """Return the names of a record in their order: the declared ones, where there are any.

    Raises:
        WireError: The record lacks a declared field, or has another one.
    """
    if declared.items is None:
        return list(found)
    wanted = [name for name, _ in declared.items]
    missing = [f"lacks {name}" for name in wanted if name not in found]
    extra = [f"has {name} besides" for name in found if name not in wanted]
    if missing or extra:
        raise unlike(declared, f"{path} {', '.join([*missing, *extra][:5])}")
    return wanted


# --- reading them ----------------------------------------------------------------------------


def read_plain(data: memoryview, declared: Type) -> Any:
    """Return the list or record; a list as a list, a record as a dictionary.

    Raises:
        WireError: The bytes are no list or record of the declared type.
    """
    if len(data) > MAX_PLAIN_BYTES:
        raise _too_large(f"{len(data)} bytes", declared)
    try:
        message = Value.FromString(bytes(data))
    except DecodeError as error:
        raise unlike(declared, "The bytes are no message of plain data") from error
    return _read(message, declared, "The value", 0)


def _read(message: Value, declared: Type, path: str, depth: int) -> object:
    if depth > MAX_PLAIN_DEPTH:
        raise unlike(declared, f"{path} lies more than {MAX_PLAIN_DEPTH} levels deep")
    name = message.WhichOneof("kind")
    if name is None or (declared.kind != "any" and _FIELDS.get(declared.kind) != name):
        raise unlike(declared, f"{path} is {name or 'of no known kind'}")
    if name == "null":
        return None
    if name == "list":
        item = _item(declared)
        items = enumerate(message.list.items)
        return [_read(one, item, f"{path}[{index}]", depth + 1) for index, one in items]
    if name == "record":
        return _read_record(message, declared, path, depth)
    return getattr(message, name)


def _read_record(message: Value, declared: Type, path: str, depth: int) -> dict[str, object]:
    fields = message.record.fields[:]  # a list of Python's own is quicker to walk
    found = {field.name: field.value for field in fields}
    if len(found) < len(fields):
        raise unlike(declared, f"{path} has a name twice")
    return {
        name: _read(found[name], _field(declared, name), f"{path}.{name}", depth + 1)
        for name in names_of(found, declared, path)
    }
