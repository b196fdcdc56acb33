"""Canonical JSON of whole plans at a time, by twins of the messages that msgspec reads and writes.

A twin has what the text has: names in camelCase, 64-bit numbers and enums as texts. Both ways work
on columns and give `None` for what is not sure to be right; `_json` then goes from value to
value. What is read here is canonical, as it is written again and compared: neither a name that
comes twice nor another way to write a number can slip through.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, cast

import msgspec

from bb_ir.plan._fields import Row, rows
from bb_ir.plan._fitting import MAX_DIGEST, MAX_ITEMS
from bb_ir.plan._tables import (
    Table,
    all_are,
    builder,
    columns_of,
    cut,
    in_range,
    table_of,
    texts_fit,
)

__all__ = ["canonical", "read"]

_WIDE: Final = ("uint64", "int64")
_PLAIN: Final[dict[str, Any]] = {
    "string": str,
    "bytes": bytes,
    "enum": str,
    "uint32": int,
    **dict.fromkeys(_WIDE, str),
}


def canonical(message: Any) -> bytes | None:
    """Return the canonical JSON of a message in UTF-8, or `None` when a value may not fit."""
    cls: type[Any] = message.__class__
    table = table_of(cls, (message,))
    return None if table is None else msgspec.json.encode(_twins(table)[0])


def read(cls: type[Any], data: bytes) -> Any:
    """Return the message that canonical JSON says; `None` when it may be anything else."""
    try:
        found = msgspec.json.decode(data, type=_twin(cls))
        if msgspec.json.encode(found) != data:
            return None
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None
    made = _messages(cls, [found])
    return made and made[0]


def _twin_of(cls: type[Any]) -> type[Any]:
    fields = [(row.json, *_type_of(row)) for row in rows(cls)]
    return msgspec.defstruct(
        cls.__name__, fields, omit_defaults=True, forbid_unknown_fields=True, gc=False
    )


#: Returns the class of the twins of a message.
_twin = cast("Callable[[type[Any]], type[Any]]", lru_cache(maxsize=64)(_twin_of))


def _type_of(row: Row) -> tuple[Any, Any]:
    """Return the type of a field of a twin, and its default."""
    of: Any = _twin(row.of) if row.kind == "message" and row.of else _PLAIN[row.kind]
    if row.many:
        # This very factory: msgspec leaves out an empty list only where it makes one.
        several: Any = list[of]
        return several, msgspec.field(default_factory=cast("Any", list))
    if row.default is None:
        return of | None, None
    return of, _written(row)


def _written(row: Row) -> Any:
    """Return what stands for the default; a twin leaves out what is this very object."""
    if row.kind == "enum":
        return row.default.name
    return "" if row.kind in _WIDE else row.default


# --- writing


def _twins(table: Table) -> list[Any]:
    told = [_told(table, row) for row in rows(table.cls)]
    # A class whose fields have their defaults everywhere has columns that never end.
    return [*itertools.islice(map(_twin(table.cls), *told), table.size)]


def _told(table: Table, row: Row) -> Any:
    column = table.columns.get(row.name)
    if column is None:
        return itertools.repeat([] if row.many else _written(row))
    if row.kind == "message":
        below = _twins(table.below[row.name])
        if row.many:
            return map(list, cut(below, map(len, column)))
        left = iter(below)
        return [None if one is None else next(left) for one in column]
    if row.many:
        return [[*map(str, one)] for one in column] if row.kind in _WIDE else map(list, column)
    write = _WRITE.get(row.kind)
    return column if write is None else write(column)


def _digits(values: Sequence[int]) -> list[str]:
    """Return numbers as texts, 0 as an empty one: of a list at once, which costs a fourth."""
    if not values:
        return []
    found = msgspec.json.encode(values)[1:-1].decode().split(",")
    return ["" if one == "0" else one for one in found] if 0 in values else found


_WRITE: Final[dict[str, Callable[[Any], Any]]] = {
    "enum": lambda values: [one._name_ for one in values],
    "uint32": lambda values: [one or 0 for one in values],
    **dict.fromkeys(_WIDE, _digits),
}


# --- reading


def _messages(cls: type[Any], twins: Sequence[Any]) -> list[Any] | None:
    if not twins:
        return []
    fields = rows(cls)
    columns: list[Any] = []
    for row, column in columns_of(fields, [row.json for row in fields], twins):
        if not row.many and all_are(column, _written(row) if row.default is not None else None):
            columns.append([row.default] * len(twins))
            continue
        values = _list(row, column) if row.many else _values(row, column)
        if values is None:
            return None
        columns.append(values)
    if cls.__name__ == "Plan" and twins[0].cache is not None and twins[0].swap is not None:
        return None
    return builder(cls)(columns)


def _list(row: Row, column: Sequence[list[Any]]) -> list[Any] | None:
    longest = max(map(len, column))
    if not longest:
        return [()] * len(column)
    if longest > MAX_ITEMS:
        return None
    found = _values(row, [*itertools.chain.from_iterable(column)])
    return None if found is None else cut(found, map(len, column))


def _values(row: Row, values: Sequence[Any]) -> Sequence[Any] | None:
    if row.kind == "message" and row.of is not None:
        return _below(row.of, values)
    if row.kind == "enum" and row.of is not None:
        found: list[Any] = [*map(row.of.__members__.get, values)]
        return None if None in found else found
    if row.kind == "string":
        given = values if row.default is not None else [*filter(_is_given, values)]
        return values if texts_fit(given) else None
    if row.kind == "bytes":
        return values if max(map(len, values), default=0) <= MAX_DIGEST else None
    return _numbers(row, values)


def _is_given(value: Any) -> bool:
    return value is not None


def _below(of: type[Any], values: Sequence[Any]) -> list[Any] | None:
    found = _messages(of, [one for one in values if one is not None])
    if found is None or len(found) == len(values):
        return found
    left = iter(found)
    return [None if one is None else next(left) for one in values]


def _numbers(row: Row, values: Sequence[Any]) -> list[int] | None:
    """Return numbers, which are texts when they are wide, an empty one for 0."""
    if row.kind not in _WIDE:
        return [*values] if in_range(values, row.kind) else None
    if "" in values:
        if row.many:
            return None
        values = [one or "0" for one in values]
    told = ",".join(values)
    data = f"[{told}]".encode()
    try:
        found: list[int] = msgspec.json.decode(data, type=list[int])
        # What is written again and the same has no other way to write a number, and no comma.
        if len(found) != len(values) or msgspec.json.encode(found) != data:
            return None
    except (msgspec.MsgspecError, ValueError, OverflowError):
        return None
    return found if in_range(found, row.kind) else None
