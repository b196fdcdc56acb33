"""Many messages of one class as columns, and back: what makes plans of many ops fast.

A plan of ten thousand ops has hundreds of thousands of values. Looking at each by itself costs
Python most of a second; here one call looks at a whole column. Columns say only that all is well:
what they cannot vouch for is `None`, and then the code that goes from value to value (`_fitting`,
`_json`, `binary`, the rules) says what is wrong, and in which words.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, cast

import msgspec

from bb_ir.plan._fields import RANGES, Row, rows
from bb_ir.plan._fitting import MAX_DIGEST, MAX_ITEMS, MAX_TEXT

__all__ = ["Table", "all_are", "columns_of", "cut", "in_range", "spread", "table_of", "texts_fit"]


#: Messages that are taken apart before the next ones are.
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
    """Return messages as columns, or `None` when a value may not fit its field.

    Lists that hold the very same messages have one table: where all of a version is new, its
    chunks are those that a swap adds.
    """
    return _table(cls, messages, [])


def _table(
    cls: type[Any], messages: Sequence[Any], known: list[tuple[Sequence[Any], Table]]
) -> Table | None:
    for others, table in known:
        if len(others) == len(messages) and all(map(operator.is_, others, messages)):
            return table
    columns: dict[str, Sequence[Any]] = {}
    below: dict[str, Table] = {}
    for row, column in columns_of(rows(cls), messages):
        if all_are(column, row.default):
            continue
        columns[row.name] = column
        values = _listed(column) if row.many else column
        if values is None or not _FITS[row.kind](values, row):
            return None
        if row.of is not None and row.kind == "message":
            found = _table(row.of, [one for one in values if one is not None], known)
            if found is None:
                return None
            below[row.name] = found
    if "cache" in columns and "swap" in columns:
        return None
    made = Table(cls, len(messages), columns, below)
    if messages:
        known.append((messages, made))
    return made


def columns_of(
    fields: Sequence[Row], structs: Sequence[Any]
) -> Iterator[tuple[Row, Sequence[Any]]]:
    """Yield fields with the column of each, which is an attribute of all structs."""
    columns: list[list[Any]] = [[] for _ in fields]
    # All at once would make one tuple for each, which garbage collections would go through.
    for begin in range(0, len(structs), _AT_ONCE):
        part = map(msgspec.structs.astuple, structs[begin : begin + _AT_ONCE])
        for column, values in zip(columns, zip(*part, strict=True), strict=True):
            column.extend(values)
    if structs:
        yield from zip(fields, columns, strict=True)


def all_are(column: Sequence[Any], value: Any) -> bool:
    """Tell whether all entries of a column are one object."""
    return all(map(operator.is_, column, itertools.repeat(value)))


def cut(values: Iterable[Any], lengths: Sequence[int]) -> list[tuple[Any, ...]]:
    """Return the tuples that values make, one of each length."""
    if {*lengths} == {1}:
        return [*zip(values, strict=False)]
    left = iter(values)
    return [tuple(itertools.islice(left, length)) for length in lengths]


def spread(values: Iterable[Any], there: Iterable[bool]) -> list[Any]:
    """Return values where they are there, and `None` elsewhere."""
    left = iter(values)
    return [next(left) if one else None for one in there]


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
