"""How the fields of a message are declared: numbers and kinds, once, beside the Python types.

`rows` gives them as a table, from which reading, writing and checking work. A test holds it against
what protoc made of `_proto/plan.proto`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final, NamedTuple, cast

__all__ = ["RANGES", "Row", "enum", "number", "one", "raw", "rows", "several", "text"]

#: Smallest and largest value of each kind of number.
RANGES: Final = {
    "uint32": (0, (1 << 32) - 1),
    "uint64": (0, (1 << 64) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
}


class Row(NamedTuple):
    """One field of a message.

    Attributes:
        name: Its attribute in Python.
        proto: Its name in the schema.
        json: Its name in JSON.
        number: Its number.
        kind: `string`, `bytes`, a key of `RANGES`, `enum` or `message`.
        of: Class of its values, when they are enums or messages.
        many: Whether it is a list.
        default: What it is when it is not given.
    """

    name: str
    proto: str
    json: str
    number: int
    kind: str
    of: type[Any] | None
    many: bool
    default: Any


def text(number: int, *, many: bool = False, optional: bool = False) -> Any:
    """Declare a text; an optional one tells empty from absent, which is `None`."""
    return _field(number, "string", () if many else None if optional else "", many=many)


def raw(number: int) -> Any:
    """Declare bytes."""
    return _field(number, "bytes", b"")


def number(number: int, kind: str = "uint64", *, many: bool = False) -> Any:
    """Declare a whole number, or several."""
    return _field(number, kind, () if many else 0, many=many)


def enum(number: int, of: type[IntEnum]) -> Any:
    """Declare an enum; 0 is its default."""
    return _field(number, "enum", of(0), of)


def one(number: int, of: type[Any]) -> Any:
    """Declare a message that may be absent."""
    return _field(number, "message", None, of)


def several(number: int, of: type[Any]) -> Any:
    """Declare a list of messages."""
    return _field(number, "message", (), of, many=True)


def _field(
    number: int, kind: str, default: Any, of: type[Any] | None = None, *, many: bool = False
) -> Any:
    told = {"number": number, "kind": kind, "of": of, "many": many}
    return dataclasses.field(default=default, metadata=told)


def _row(field: dataclasses.Field[Any]) -> Row:
    proto = field.name.rstrip("_")
    first, *rest = proto.split("_")
    return Row(field.name, proto, first + "".join(map(str.title, rest)),
               default=field.default, **field.metadata)  # fmt: skip


def _rows(cls: type[Any]) -> tuple[Row, ...]:
    return tuple(_row(field) for field in dataclasses.fields(cls))


#: Returns the fields of a message, in the order of their numbers.
rows = cast("Callable[[type[Any]], tuple[Row, ...]]", lru_cache(maxsize=64)(_rows))
