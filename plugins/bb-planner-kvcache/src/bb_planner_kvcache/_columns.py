"""Sorting, grouping, filling up and cutting out, on whole columns.

Nothing here knows what the columns mean. Every result is the same on every machine: ties are
broken by position, and no sum of floats decides anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FAR", "I64", "Spans", "codes_of", "constant", "cut_out", "fit", "grouped_sums", "lengths_of",
    "merged", "order_of", "running_ends", "starts",
]  # fmt: skip

I64 = NDArray[np.int64]

#: More than any number of bytes or pages: no limit.
FAR: Final = 1 << 62

#: Rounds of filling up before what is left is looked at one by one.
_ROUNDS: Final = 6


def constant(value: int, size: int) -> I64:
    """Return a column that takes no memory, and that `order_of` passes over."""
    return np.broadcast_to(np.int64(value), (size,))


class _Narrow(NamedTuple):
    """A column, what to take away from it, how far to shift it, and the bits that it has then."""

    column: I64
    least: int
    shift: int
    bits: int


def _narrow(columns: Sequence[I64]) -> tuple[list[_Narrow], int]:
    """Return the columns that are not constant, and how many bits they have together."""
    found: list[_Narrow] = []
    for column in columns:
        if column.strides == (0,) or not len(column):
            continue
        least, most = int(column.min()), int(column.max())
        if least == most:
            continue
        # Sizes and offsets are multiples of something: zeros at the end need no room.
        shift = 0
        if (most - least).bit_length() > 12:
            common = int(np.bitwise_or.reduce(column - least))
            shift = (common & -common).bit_length() - 1
        found.append(_Narrow(column, least, shift, ((most - least) >> shift).bit_length()))
    return found, sum(one.bits for one in found)


def order_of(*columns: I64) -> NDArray[np.intp]:
    """Return the order by the first column, then the next ones, then the position.

    One sort of packed numbers where the columns fit into 63 bits together with the position.
    """
    size = len(columns[0])
    narrow, bits = _narrow(columns)
    if not narrow:
        return np.arange(size)
    place = max(size - 1, 1).bit_length()
    if bits + place > 63:
        return np.lexsort(columns[::-1])
    key = _packed(narrow, size)
    key <<= place
    key |= np.arange(size)
    key.sort()
    key &= (1 << place) - 1
    return key


def _packed(narrow: Sequence[_Narrow], size: int) -> I64:
    key = np.zeros(size, np.int64)
    for column, least, shift, bit in narrow:
        key <<= bit
        part = column - least
        if shift:
            part >>= shift
        key |= part
    return key


def codes_of(*columns: I64) -> I64:
    """Return one number for each combination of values, the same for the same."""
    narrow, bits = _narrow(columns)
    if bits <= 62:
        return _packed(narrow, len(columns[0]))
    stacked = np.stack([column for column, *_ in narrow], axis=1)
    _, inverse = np.unique(stacked, axis=0, return_inverse=True)
    return np.asarray(inverse.reshape(-1), np.int64)


def lengths_of(begin: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    """Return how long groups are that begin there, the last of which ends at `size`.

    It is `np.diff(begin, append=size)` without what that spends on short columns.
    """
    found = np.empty_like(begin)
    if len(begin):
        np.subtract(begin[1:], begin[:-1], out=found[:-1])
        found[-1] = size - begin[-1]
    return found


def grouped_sums(values: I64, first: NDArray[np.bool_]) -> I64:
    """Return running sums that begin anew where `first` is set."""
    sums = np.cumsum(values)
    begin = np.flatnonzero(first)
    before = sums[begin] - values[begin]
    return sums - np.repeat(before, lengths_of(begin, len(values)))


def starts(*columns: I64) -> NDArray[np.bool_]:
    """Tell where one of the columns, which are sorted, is another than in the row before."""
    first = np.ones(len(columns[0]), np.bool_)
    if len(first) > 1:
        first[1:] = False
        for column in columns:
            if column.strides != (0,):
                first[1:] |= column[1:] != column[:-1]
    return first


def fit(group: I64, cap: I64, size: I64, unit: I64, *ranks: I64) -> I64:
    """Return how much of each item is taken, so that no group has more than its cap.

    Items are looked at by `ranks`, then position. Each is taken whole when there is room, else
    passed over, for later ones may fit (backfill). Only the first of a group, when it is larger
    than the cap alone, is cut to what fits, so that it does not starve.

    Args:
        group: The group of each item.
        cap: The cap of the item's group; `FAR` for none.
        size: Size of each item, at least 1.
        unit: A part of an item is a multiple of this.
        ranks: Columns that say which items come first.
    """
    taken = size.copy()
    limited = np.flatnonzero(cap < FAR)
    if not len(limited):
        return taken
    limited = limited[order_of(group[limited], *(one[limited] for one in ranks))]
    size, cap = size[limited], cap[limited]
    first = starts(group[limited])
    gid = np.cumsum(first) - 1
    heads = np.flatnonzero(first)
    room = cap[heads].copy()
    cut = np.flatnonzero(size[heads] > room)
    parts = unit[limited[heads[cut]]]
    pieces = room[cut] // parts * parts
    done = np.zeros(len(size), np.bool_)
    taken[limited] = 0
    taken[limited[heads[cut]]] = pieces
    done[heads[cut]] = True
    room[cut] -= pieces
    left = np.flatnonzero(~done)
    for _ in range(_ROUNDS):
        left = left[size[left] <= room[gid[left]]]
        if not len(left):
            return taken
        sizes, groups = size[left], gid[left]
        new = starts(groups)
        sums = grouped_sums(sizes, new)
        good = sums <= room[groups]
        accepted = left[good]
        taken[limited[accepted]] = size[accepted]
        begin = np.flatnonzero(new)
        room[groups[begin]] -= np.maximum.reduceat(np.where(good, sums, 0), begin)
        left = left[~good]
    rest = room.tolist()
    for at, one, items in zip(left.tolist(), size[left].tolist(), gid[left].tolist(), strict=True):
        if one <= rest[items]:
            rest[items] -= one
            taken[limited[at]] = one
    return taken


class Spans(NamedTuple):
    """Runs of pages, both ends included.

    Attributes:
        group: What the pages belong to.
        start: First pages.
        end: Last pages.
    """

    group: I64
    start: I64
    end: I64


def merged(spans: Spans) -> Spans:
    """Return spans sorted and without overlap; neighbours are joined."""
    order = order_of(spans.group, spans.start)
    group, start, end = (column[order] for column in spans)
    if not len(group):
        return Spans(group, start, end)
    furthest = running_ends(starts(group), end)
    first = starts(group)
    first[1:] |= start[1:] > furthest[:-1] + 1
    begin = np.flatnonzero(first)
    return Spans(group[begin], start[begin], np.maximum.reduceat(end, begin))


def running_ends(first: NDArray[np.bool_], end: I64) -> I64:
    """Return the largest end so far, beginning anew where `first` is set."""
    gid = np.cumsum(first)
    wide = int(end.max()) + 1
    if int(gid[-1]) * wide < FAR:
        found: I64 = np.maximum.accumulate(gid * wide + end)
        return found - gid * wide
    found = end.copy()
    for begin, stop in zip(*_edges(first), strict=True):
        np.maximum.accumulate(end[begin:stop], out=found[begin:stop])
    return found


def _edges(first: NDArray[np.bool_]) -> tuple[list[int], list[int]]:
    """Return where groups begin and end."""
    begin = np.flatnonzero(first)
    return begin.tolist(), np.append(begin[1:], len(first)).tolist()


def cut_out(spans: Spans, holes: Spans) -> tuple[NDArray[np.intp], I64, I64]:
    """Return what is left of spans without the pages of `holes`, which are `merged`.

    Returns:
        For each piece the position of its span, its first and its last page. Pieces come in the
        order of their spans; of a span that is covered there are none.
    """
    size = len(spans.start)
    known = holes.group[starts(holes.group)]
    at = np.minimum(np.searchsorted(known, spans.group), len(known) - 1)
    shared = known[at] == spans.group
    width = max(int(spans.end.max()), int(holes.end.max())).bit_length() + 1
    number = np.cumsum(starts(holes.group)) - 1
    low, high = (number << width) + holes.start, (number << width) + holes.end
    lo = np.searchsorted(high, (at << width) + spans.start, "left")
    hi = np.searchsorted(low, (at << width) + spans.end, "right")
    count = np.where(shared, np.maximum(hi - lo, 0), 0)
    owner = np.repeat(np.arange(size), count + 1)
    nth = np.arange(len(owner)) - np.repeat(np.cumsum(count + 1) - count - 1, count + 1)
    hole = np.repeat(lo, count + 1) + nth
    last = nth == count[owner]
    begin = np.where(nth == 0, spans.start[owner], holes.end[np.maximum(hole - 1, 0)] + 1)
    within = np.minimum(hole, len(holes.start) - 1)
    end = np.where(last, spans.end[owner], holes.start[within] - 1)
    real = begin <= end
    return owner[real], begin[real], end[real]
