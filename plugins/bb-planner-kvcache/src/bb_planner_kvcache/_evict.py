"""What can be dropped from places, and what is: the coldest pages, where room is needed."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bb_planner_kvcache._asked import Asked, lookup
from bb_planner_kvcache._columns import (
    FAR,
    I64,
    Spans,
    codes_of,
    cut_out,
    lengths_of,
    merged,
    order_of,
    starts,
)
from bb_roles.errors import UnplannableRequest

__all__ = ["Victims", "victims_of"]

#: Most pages that are looked at one by one.
_MOST_PAGES: Final = 1 << 24


class Victims(NamedTuple):
    """Pages that nobody asks for in this window, coldest first, in places that are short of room.

    Attributes:
        bytes_by_place: How many bytes could be dropped from each place.
        held: Row of what is held, for each page.
        page: The page.
        group: What makes one page another than one of the same number.
    """

    bytes_by_place: I64
    held: NDArray[np.intp]
    page: I64
    group: I64

    @classmethod
    def none(cls, places: int) -> Victims:
        """Return that nothing can be dropped."""
        nothing = np.zeros(0, np.int64)
        return cls(np.zeros(places, np.int64), np.zeros(0, np.intp), nothing, nothing)

    def evict(self, asked: Asked, ops: dict[str, NDArray[Any]]) -> dict[str, I64]:
        """Return the pages to drop, as runs, so that all moves have room."""
        held = asked.held
        if held is None or not len(self.held):
            return {}
        needed = np.zeros(len(asked.places.tier), np.int64)
        np.add.at(needed, ops["dst"], ops["bytes"])
        needed -= asked.free
        place, size = held.place[self.held], held.page_bytes[self.held]
        order = order_of(place)
        first = starts(place[order])
        sums = np.cumsum(size[order])
        begin = np.flatnonzero(first)
        counts = lengths_of(begin, len(order))
        before = sums - size[order] - np.repeat(sums[begin] - size[order][begin], counts)
        gone = order[before < needed[place[order]]]
        return _runs(asked, self, gone)


def victims_of(asked: Asked) -> Victims:
    """Return what can be dropped: what is held where room is limited, and not asked for.

    Raises:
        UnplannableRequest: More pages are held than can be looked at.
    """
    held = asked.held
    if held is None or not (asked.free < FAR).any():
        return Victims.none(len(asked.places.tier))
    row = np.flatnonzero(asked.free[held.place] < FAR)
    if not len(row):
        return Victims.none(len(asked.places.tier))
    count = held.end[row] - held.start[row] + 1
    if int(count.sum()) > _MOST_PAGES:
        raise UnplannableRequest(
            f"{int(count.sum())} pages are held",
            expected=f"at most {_MOST_PAGES} in places with free_bytes",
            fix="leave out those that were used last",
        )
    joint = codes_of(
        np.concatenate([held.place[row], asked.dst]),
        np.concatenate([held.stack[row], asked.stack]),
        np.concatenate([held.layer[row], asked.layer]),
        np.concatenate([held.page_bytes[row], asked.page_bytes]),
    )
    spans = Spans(joint[: len(row)], held.start[row], held.end[row])
    owner, start, end = np.arange(len(row)), spans.start, spans.end
    if asked.size:
        wanted = merged(Spans(joint[len(row) :], asked.start, asked.end))
        owner, start, end = cut_out(spans, wanted)
    counts = end - start + 1
    which = np.repeat(owner, counts)
    page = np.repeat(start, counts) + _ramp(counts)
    which, page = _once(joint[: len(row)][which], which, page)
    at = row[which]
    total = np.zeros(len(asked.places.tier), np.int64)
    np.add.at(total, held.place[at], held.page_bytes[at])
    coldest = _coldest(asked, held.layer[at], page)
    return Victims(total, at[coldest], page[coldest], joint[which[coldest]])


def _once(
    group: I64, which: NDArray[np.intp], page: I64
) -> tuple[NDArray[np.intp], I64]:  # fmt: skip
    """Return each page once, where it was used last, in the order of what is held."""
    order = order_of(group, page)
    last = np.ones(len(order), np.bool_)
    last[:-1] = starts(group[order], page[order])[1:]
    kept = np.sort(order[last])
    return which[kept], page[kept]


def _coldest(asked: Asked, layer: I64, page: I64) -> NDArray[np.intp]:
    """Return the order by hits; of those with as many the least recently used come first."""
    if asked.heat is None:
        return np.arange(len(page))
    found = lookup(asked.heat, layer, page)
    hits = np.where(found >= 0, asked.heat.hits[found], 0.0)
    return np.argsort(hits, kind="stable")


def _runs(asked: Asked, victims: Victims, gone: NDArray[np.intp]) -> dict[str, I64]:
    group, page = victims.group[gone], victims.page[gone]
    order = order_of(group, page)
    group, page, at = group[order], page[order], victims.held[gone[order]]
    if not len(gone):
        return {}
    first = starts(group)
    first[1:] |= page[1:] != page[:-1] + 1
    begin = np.flatnonzero(first)
    assert asked.held is not None
    row = at[begin]
    return {
        "place": asked.held.place[row],
        "layer": asked.held.layer[row],
        "page_start": page[begin],
        "page_end": page[np.append(begin[1:], len(page)) - 1],
        "page_bytes": asked.held.page_bytes[row],
        "row": row.astype(np.int64),
    }


def _ramp(counts: I64) -> I64:
    """Return 0, 1, 2 and so on, beginning anew for each count."""
    total = int(counts.sum())
    return np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
