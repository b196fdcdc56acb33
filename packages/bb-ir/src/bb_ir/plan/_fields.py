"""How messages and their fields are declared: numbers and kinds, once, beside the Python types.

`rows` gives them as a table, from which reading, writing and checking work. A test holds it against
what protoc made of `_proto/plan.proto`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from enum import IntEnum
from functools import lru_cache
from typing import (
    Any,
    Final,
    NamedTuple,
    NoReturn,
    TypeVar,
    cast,
    dataclass_transform,
    get_type_hints,
)

import msgspec

__all__ = ["RANGES", "Row", "enum", "message", "number", "one", "raw", "rows", "several", "text"]

T = TypeVar("T")

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


@dataclass_transform(frozen_default=True)
def message(body: type[T]) -> type[T]:
    """Make a message of what declares its fields: what a frozen dataclass with slots is, in C.

    A dataclass that is frozen sets each attribute by a call, 1.6 us for an op; a struct of msgspec
    is made in a tenth of that. Collections of garbage do not go through it, which ten thousand new
    ops would set off. That asks for messages that do not hold themselves, which values of the types
    of their fields cannot. `dataclasses.replace`, `fields` and `asdict` take it for a dataclass, as
    type checkers do.
    """
    declared: type[Any] = dataclasses.dataclass(init=False, repr=False, eq=False)(body)
    hints = get_type_hints(declared)
    told = [(one.name, hints[one.name], one.default) for one in dataclasses.fields(declared)]
    known = {name: vars(declared)[name] for name in ("__doc__", "__dataclass_fields__")}
    made: Any = msgspec.defstruct(
        body.__name__, told, namespace=known, module=body.__module__, frozen=True, gc=False
    )
    made.__setattr__, made.__delattr__ = _refuse_set, _refuse_delete
    return cast("type[T]", made)


def _refuse_set(_message: Any, name: str, _value: Any) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_delete(_message: Any, name: str) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


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
