"""Tables of messages as the bytes that protobuf writes, a column at a time.

A field becomes a piece: a matrix of bytes with one row for each message, of which the first so many
of each row count. All pieces side by side, less what does not count, are the messages one after the
other. Fields come in the order of their numbers, without those that have their default, as
protobuf has them; a test holds it against protobuf. Numpy is imported with this module.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bb_ir.plan._fields import Row, rows
from bb_ir.plan._tables import Table

__all__ = ["encode"]

Bytes = NDArray[np.uint8]
Sizes = NDArray[np.int64]

#: Wire types: a number of any length, and so many bytes.
_VARINT: Final = 0
_BYTES: Final = 2
#: An enum's number; `int` of one is a function of Python.
_VALUE: Final = operator.attrgetter("_value_")
#: Texts that come so many times each on average are encoded once.
_OFTEN: Final = 4
#: What nobody wants to have in memory for a plan: a text that is much longer than all others.
_MOST_CELLS: Final = 1 << 28


class _Piece(NamedTuple):
    """Bytes for each of some messages.

    Attributes:
        cells: Shape (messages, width); what is in a row beyond its size may be anything.
        sizes: How many bytes of each row count, shape (messages,).
    """

    cells: Bytes
    sizes: Sizes


#: What was made of tables, by their identity: some are in more than one place.
_Made = dict[int, "list[_Piece] | None"]


def encode(table: Table) -> bytes | None:
    """Return the one message of a table as protobuf; `None` where that would take much memory."""
    pieces = _pieces(table, {})
    return None if pieces is None else _joined(pieces, 1).tobytes()


def _pieces(table: Table, made: _Made) -> list[_Piece] | None:
    """Return what the fields of messages are, one after the other."""
    found = made.get(id(table))
    if found is None:
        found = made[id(table)] = _fields(table, made)
    return found


def _fields(table: Table, made: _Made) -> list[_Piece] | None:
    found: list[_Piece] = []
    for row in rows(table.cls):
        column = table.columns.get(row.name)
        if column is None:
            continue
        pieces = _field(row, column, table, made)
        if pieces is None or sum(one.cells.size for one in pieces) > _MOST_CELLS:
            return None
        found.extend(pieces)
    return found


def _field(row: Row, column: Sequence[Any], table: Table, made: _Made) -> list[_Piece] | None:
    if row.many:
        return _list(row, column, table, made)
    if row.default is not None:
        return _SCALARS[row.kind](row, column)
    if row.kind == "message":
        below = table.below[row.name]
        size, pieces = below.size, _messages(row, below, made)
    else:
        given = [one for one in column if one is not None]
        size, pieces = len(given), _texts(row, given, keep_empty=True)
    if pieces is None or size == len(column):
        return pieces
    there = np.fromiter((one is not None for one in column), np.bool_, len(column))
    return [_spread(one, there) for one in pieces]


def _messages(row: Row, below: Table, made: _Made) -> list[_Piece] | None:
    """Return the messages in a field, each after its size."""
    found = _pieces(below, made)
    return None if found is None else [_head(row, _total(found, below.size)), *found]


def _list(row: Row, column: Sequence[Any], table: Table, made: _Made) -> list[_Piece] | None:
    counts = np.fromiter(map(len, column), np.int64, len(column))
    listed = [*itertools.chain.from_iterable(column)]
    if row.kind == "message":
        pieces = _messages(row, table.below[row.name], made)
    elif row.kind == "string":
        pieces = _texts(row, listed, keep_empty=True)
    else:
        packed = _gathered([_varints(_numbers(row, listed))], counts)
        return packed and [_head(row, packed.sizes, keep_empty=False), packed]
    found = None if pieces is None else _gathered(pieces, counts)
    return None if found is None else [found]


# --- values


def _scalar_numbers(row: Row, column: Sequence[Any]) -> list[_Piece]:
    return [_after_tag(row, _numbers(row, column), _VARINT, keep_empty=False)]


def _scalar_texts(row: Row, column: Sequence[str]) -> list[_Piece]:
    known = dict.fromkeys(column)
    if len(known) * _OFTEN > len(column):
        return _texts(row, column, keep_empty=False)
    numbers = {text: number for number, text in enumerate(known)}
    which = np.fromiter(map(numbers.__getitem__, column), np.int64, len(column))
    told = _texts(row, [*known], keep_empty=False)
    return [_Piece(one.cells[which], one.sizes[which]) for one in told]


def _texts(row: Row, texts: Iterable[str], *, keep_empty: bool) -> list[_Piece]:
    return _raw(row, [*map(str.encode, texts)], keep_empty=keep_empty)


def _scalar_bytes(row: Row, values: Sequence[bytes]) -> list[_Piece]:
    return _raw(row, values, keep_empty=False)


def _raw(row: Row, values: Sequence[bytes], *, keep_empty: bool) -> list[_Piece]:
    sizes = np.fromiter(map(len, values), np.int64, len(values))
    width = max(1, int(sizes.max(initial=0)))
    cells = np.array(values, f"S{width}").view(np.uint8).reshape(-1, width)
    return [_head(row, sizes, keep_empty=keep_empty), _Piece(cells, sizes)]


_SCALARS: Final[dict[str, Callable[[Row, Any], list[_Piece]]]] = {
    "string": _scalar_texts,
    "bytes": _scalar_bytes,
    **dict.fromkeys(("enum", "uint32", "uint64", "int64"), _scalar_numbers),
}


def _numbers(row: Row, values: Sequence[Any]) -> NDArray[np.uint64]:
    """Return numbers as protobuf counts them: those below 0 from the end of 64 bits."""
    if row.kind == "enum":
        return np.fromiter(map(_VALUE, values), np.uint64, len(values))
    if row.kind == "int64":
        return np.array(values, np.int64).view(np.uint64)
    return np.array(values, np.uint64)


# --- pieces


def _head(row: Row, sizes: Sizes, *, keep_empty: bool = True) -> _Piece:
    """Return what comes before so many bytes: the field and how many they are."""
    return _after_tag(row, sizes.astype(np.uint64), _BYTES, keep_empty=keep_empty)


def _after_tag(row: Row, values: NDArray[np.uint64], wire: int, *, keep_empty: bool) -> _Piece:
    tag = _varints(np.array([row.number << 3 | wire], np.uint64)).cells
    told = _varints(values)
    cells = np.empty((len(values), tag.shape[1] + told.cells.shape[1]), np.uint8)
    cells[:, : tag.shape[1]] = tag
    cells[:, tag.shape[1] :] = told.cells
    sizes = told.sizes + tag.shape[1]
    return _Piece(cells, sizes if keep_empty else np.where(values == 0, 0, sizes))


def _varints(values: NDArray[np.uint64]) -> _Piece:
    """Return numbers in groups of 7 bits, the lowest first; all but the last have a bit more."""
    most = int(values.max(initial=0))
    width = max(1, -(-most.bit_length() // 7))
    sizes = np.ones(len(values), np.int64)
    for group in range(1, width):
        sizes += values >= np.uint64(1 << 7 * group)
    cells = np.empty((len(values), width), np.uint8)
    for group in range(width):
        bits = (values >> np.uint64(7 * group)).astype(np.uint8) & 127
        cells[:, group] = bits | ((sizes > group + 1).astype(np.uint8) << 7)
    return _Piece(cells, sizes)


def _spread(piece: _Piece, there: NDArray[np.bool_]) -> _Piece:
    """Return a piece for more messages, of which those that are not there have nothing."""
    cells = np.zeros((len(there), piece.cells.shape[1]), np.uint8)
    sizes = np.zeros(len(there), np.int64)
    cells[there], sizes[there] = piece.cells, piece.sizes
    return _Piece(cells, sizes)


def _gathered(pieces: Sequence[_Piece], counts: Sizes) -> _Piece | None:
    """Return a piece that holds, for each message, so many of those in a list."""
    ends = np.cumsum(np.append(0, _total(pieces, int(counts.sum()))))
    sizes = np.diff(ends[np.cumsum(np.append(0, counts))])
    told = _joined(pieces, int(counts.sum()))
    if len(counts) == 1:
        return _Piece(told.reshape(1, -1), sizes)
    width = int(sizes.max())
    if width * len(sizes) > _MOST_CELLS:
        return None
    cells = np.zeros((len(sizes), width), np.uint8)
    cells[_counting(sizes, width)] = told
    return _Piece(cells, sizes)


def _total(pieces: Iterable[_Piece], count: int) -> Sizes:
    """Return the bytes of each message."""
    return sum((one.sizes for one in pieces), np.zeros(count, np.int64))


def _joined(pieces: Sequence[_Piece], count: int) -> Bytes:
    """Return messages one after the other."""
    if not pieces:
        return np.zeros(0, np.uint8)
    if count == 1:
        return np.concatenate([one.cells[0, : one.sizes[0]] for one in pieces])
    cells = np.concatenate([one.cells for one in pieces], axis=1)
    counting = np.empty(cells.shape, np.bool_)
    begin = 0
    for one in pieces:
        end = begin + one.cells.shape[1]
        full = bool((one.sizes == end - begin).all())
        counting[:, begin:end] = full or _counting(one.sizes, end - begin)
        begin = end
    return np.compress(counting.reshape(-1), cells.reshape(-1))


def _counting(sizes: Sizes, width: int) -> NDArray[np.bool_]:
    """Return which cells count."""
    return np.arange(width) < sizes[:, None]
