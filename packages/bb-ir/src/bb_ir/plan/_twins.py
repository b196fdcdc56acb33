"""Canonical JSON of whole plans at a time, by twins of the messages that msgspec reads and writes.

A twin has what the text has: names in camelCase, enums as texts; 64-bit numbers, too, where it is
written. Both ways work on columns and give `None` for what is not sure to be right; `_json` then
goes from value to value. What is read here is canonical, as it is written again and compared:
neither a name that comes twice nor another way to write a number can slip through.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Annotated, Any, Final, cast

import msgspec

from bb_ir.plan._fields import RANGES, Row, rows
from bb_ir.plan._fitting import MAX_DIGEST, MAX_ITEMS, MAX_TEXT
from bb_ir.plan._tables import Table, columns_of, cut, spread, table_of

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
    """Return the message that canonical JSON says; `None` when it may be anything else.

    Numbers are read whether they are texts or not, as `_json` does, and written as numbers. So what
    was written again is compared without quotes. That hides nothing else: it was parsed with them.
    """
    try:
        found = msgspec.json.decode(data, type=_reader(cls), strict=False)
        told = msgspec.json.encode(found)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None
    if told.translate(None, b'"') != data.translate(None, b'"'):
        return None
    made = _messages(cls, [found])
    return made and made[0]


# --- writing


def _twin_of(cls: type[Any]) -> type[Any]:
    fields = [(row.json, *_type_of(row)) for row in rows(cls)]
    return msgspec.defstruct(cls.__name__, fields, omit_defaults=True, gc=False)


#: Returns the class of what is written of a message.
_twin = cast("Callable[[type[Any]], type[Any]]", lru_cache(maxsize=64)(_twin_of))


def _type_of(row: Row) -> tuple[Any, Any]:
    """Return the type of a field of a twin, and its default."""
    of: Any = _twin(row.of) if row.kind == "message" and row.of else _PLAIN[row.kind]
    if row.many:
        return tuple[of, ...], ()
    if row.default is None:
        return of | None, None
    return of, _written(row)


def _written(row: Row) -> Any:
    """Return what stands for the default; a twin leaves out what is this very object."""
    if row.kind == "enum":
        return row.default.name
    return "" if row.kind in _WIDE else row.default


def _twins(table: Table) -> list[Any]:
    told = [_told(table, row) for row in rows(table.cls)]
    # A class whose fields have their defaults everywhere has columns that never end.
    return [*itertools.islice(map(_twin(table.cls), *told), table.size)]


def _told(table: Table, row: Row) -> Any:
    column = table.columns.get(row.name)
    if column is None:
        return itertools.repeat(() if row.many else _written(row))
    if row.kind == "message":
        below = _twins(table.below[row.name])
        if row.many:
            return cut(below, [*map(len, column)])
        if len(below) == len(column):
            return below
        return spread(below, (one is not None for one in column))
    if row.many:
        return [(*map(str, one),) for one in column] if row.kind in _WIDE else column
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


def _reader_of(cls: type[Any]) -> type[Any]:
    fields = [(row.json, *_read_as(row)) for row in rows(cls)]
    return msgspec.defstruct(
        cls.__name__, fields, omit_defaults=True, forbid_unknown_fields=True, gc=False
    )


#: Returns the class of what is read of a message: as it is, but for names of enums.
_reader = cast("Callable[[type[Any]], type[Any]]", lru_cache(maxsize=64)(_reader_of))


def _read_as(row: Row) -> tuple[Any, Any]:
    of: Any = _reader(row.of) if row.kind == "message" and row.of else _READ_AS[row.kind]
    if row.many:
        return Annotated[tuple[of, ...], msgspec.Meta(max_length=MAX_ITEMS)], ()
    if row.default is None:
        return of | None, None
    return of, row.default.name if row.kind == "enum" else row.default


_READ_AS: Final[dict[str, Any]] = {
    "string": Annotated[str, msgspec.Meta(max_length=MAX_TEXT)],
    "bytes": Annotated[bytes, msgspec.Meta(max_length=MAX_DIGEST)],
    "enum": str,
    # msgspec takes no bound that is not an int64.
    "uint64": Annotated[int, msgspec.Meta(ge=0)],
    "uint32": Annotated[int, msgspec.Meta(ge=0, le=RANGES["uint32"][1])],
    "int64": Annotated[int, msgspec.Meta(ge=RANGES["int64"][0], le=RANGES["int64"][1])],
}


def _messages(cls: type[Any], found: Sequence[Any]) -> list[Any] | None:
    """Return messages of which it is known that texts, lists and most numbers fit."""
    if not found:
        return []
    columns: list[Any] = []
    for row, column in columns_of(rows(cls), found):
        values = _many(row, column) if row.many else _values(row, column)
        if values is None:
            return None
        columns.append(values)
    if cls.__name__ == "Plan" and found[0].cache is not None and found[0].swap is not None:
        return None
    return [*map(cls, *columns)]


def _many(row: Row, column: Sequence[tuple[Any, ...]]) -> Sequence[Any] | None:
    if row.kind == "string" or not any(column):
        return column
    values = _values(row, [*itertools.chain.from_iterable(column)])
    return None if values is None else cut(values, [*map(len, column)])


def _values(row: Row, values: Sequence[Any]) -> Sequence[Any] | None:
    if row.kind == "message" and row.of is not None:
        found = _messages(row.of, [one for one in values if one is not None])
        if found is None or len(found) == len(values):
            return found
        return spread(found, (one is not None for one in values))
    if row.kind == "enum" and row.of is not None:
        known = row.of.__members__
        return [*map(known.__getitem__, values)] if known.keys() >= {*values} else None
    fits = row.kind != "uint64" or max(values) <= RANGES["uint64"][1]
    return values if fits else None
