"""Many messages of one class as columns, and back: what makes plans of many ops fast.

A plan of ten thousand ops has hundreds of thousands of values. Looking at each by itself costs
Python most of a second; here one call looks at a whole column. Columns say only that all is well:
what they cannot vouch for is `None`, and then the code that goes from value to value (`_fitting`,
`_json`, `binary`, the rules) says what is wrong, and in which words.
"""

from __future__ import annotations

import dataclasses
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, cast

from bb_ir.plan._fields import RANGES, Row, rows
from bb_ir.plan._fitting import MAX_DIGEST, MAX_ITEMS, MAX_TEXT

__all__ = ["Table", "all_are", "builder", "columns_of", "cut", "in_range", "table_of", "texts_fit"]


#: Objects whose attributes are read before the next ones are.
_AT_ONCE: Final = 512


class Table(NamedTuple):
    """Messages of one class, every value of which fits its field.

    Attributes:
        cls: Their class.
        size: How many there are.
        columns: Values by name of the field, one for each message; those of a field that has its
            default everywhere are left out.
        below: The messages in a field, one after the other: those that are not `None`, or those in
            the lists.
    """

    cls: type[Any]
    size: int
    columns: dict[str, Sequence[Any]]
    below: dict[str, Table]

    def column(self, name: str) -> Sequence[Any]:
        """Return the values of a field, defaults included."""
        found = self.columns.get(name)
        if found is not None:
            return found
        default = next(row.default for row in rows(self.cls) if row.name == name)
        return [default] * self.size

    def under(self, name: str) -> Table:
        """Return the messages in a field; none when nobody has any."""
        found = self.below.get(name)
        of = next(row.of for row in rows(self.cls) if row.name == name)
        return found if found is not None else Table(cast("type[Any]", of), 0, {}, {})


def table_of(cls: type[Any], messages: Sequence[Any]) -> Table | None:
    """Return messages as columns, or `None` when a value may not fit its field."""
    columns: dict[str, Sequence[Any]] = {}
    below: dict[str, Table] = {}
    for row, column in columns_of(rows(cls), [row.name for row in rows(cls)], messages):
        if all_are(column, row.default):
            continue
        columns[row.name] = column
        values = _listed(column) if row.many else column
        if values is None or not _FITS[row.kind](values, row):
            return None
        if row.of is not None and row.kind == "message":
            found = table_of(row.of, [one for one in values if one is not None])
            if found is None:
                return None
            below[row.name] = found
    if "cache" in columns and "swap" in columns:
        return None
    return Table(cls, len(messages), columns, below)


def columns_of(
    fields: Sequence[Row], names: Sequence[str], objects: Sequence[Any]
) -> Iterator[tuple[Row, Sequence[Any]]]:
    """Yield fields with the column of each, which is an attribute of all objects."""
    getters = [*map(operator.attrgetter, names)]
    columns: list[list[Any]] = [[] for _ in getters]
    # Neither one tuple for each object, which garbage collections would go through, nor each column
    # at once, which would fetch every object from memory as often as it has fields.
    for begin in range(0, len(objects), _AT_ONCE):
        part = objects[begin : begin + _AT_ONCE]
        for getter, column in zip(getters, columns, strict=True):
            column.extend(map(getter, part))
    if objects:
        yield from zip(fields, columns, strict=True)


def all_are(column: Sequence[Any], value: Any) -> bool:
    """Tell whether all entries of a column are one object."""
    return all(map(operator.is_, column, itertools.repeat(value)))


def cut(values: Iterable[Any], lengths: Iterable[int]) -> list[tuple[Any, ...]]:
    """Return the tuples that values make, one of each length."""
    left = iter(values)
    return [tuple(itertools.islice(left, length)) for length in lengths]


def _builder(cls: type[Any]) -> Callable[[Iterable[Sequence[Any]]], list[Any]]:
    """Return what makes messages of their columns.

    A frozen dataclass sets every attribute by a call. Its twin here, of the same slots and not
    frozen, is filled eight times as fast, and then becomes one of the class.
    """
    fields = [(one.name, Any, dataclasses.field(default=one.default)) for one in _fields_of(cls)]
    twin = dataclasses.make_dataclass(cls.__name__, fields, slots=True, eq=False, repr=False)

    def build(columns: Iterable[Sequence[Any]]) -> list[Any]:
        made = [*map(twin, *columns)]
        for one in made:
            one.__class__ = cls
        return made

    return build


#: Returns what makes messages of a class from their columns, in the order of the fields.
builder = cast(
    "Callable[[type[Any]], Callable[[Iterable[Sequence[Any]]], list[Any]]]",
    lru_cache(maxsize=64)(_builder),
)


def _fields_of(cls: type[Any]) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(cls)


# --- whether the values of a column fit


def texts_fit(values: Sequence[str]) -> bool:
    """Tell whether texts are short enough, and UTF-8 can encode them."""
    if not values or max(map(len, values)) > MAX_TEXT:
        return not values
    try:
        "".join(values).encode()  # refuses half a character, even where two halves meet
    except UnicodeEncodeError:
        return False
    return True


def in_range(values: Sequence[int], kind: str) -> bool:
    """Tell whether numbers are in the range of their kind."""
    least, most = RANGES[kind]
    return not values or (least <= min(values) and max(values) <= most)


def _listed(column: Sequence[Any]) -> list[Any] | None:
    if {*map(type, column)} != {tuple} or max(map(len, column)) > MAX_ITEMS:
        return None
    return [*itertools.chain.from_iterable(column)]


def _types(values: Sequence[Any], *allowed: Any) -> bool:
    return {*map(type, values)} <= {*allowed}


def _string(values: Sequence[Any], row: Row) -> bool:
    if row.default is None:
        values = [one for one in values if one is not None]
    return _types(values, str) and texts_fit(values)


def _bytes(values: Sequence[Any], _row: Row) -> bool:
    return _types(values, bytes) and max(map(len, values), default=0) <= MAX_DIGEST


def _number(values: Sequence[Any], row: Row) -> bool:
    return _types(values, int) and in_range(values, row.kind)


def _enum(values: Sequence[Any], row: Row) -> bool:
    return _types(values, row.of)


def _message(values: Sequence[Any], row: Row) -> bool:
    return _types(values, row.of) if row.many else _types(values, row.of, type(None))


_FITS: Final[dict[str, Callable[[Sequence[Any], Row], bool]]] = {
    "string": _string,
    "bytes": _bytes,
    "enum": _enum,
    "message": _message,
    **dict.fromkeys(RANGES, _number),
}
