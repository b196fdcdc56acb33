"""Runs: what touches is moved together, and nothing is moved over anything else."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bb_planner_kvcache._asked import Asked
from bb_planner_kvcache._columns import I64, lengths_of, order_of, running_ends, starts
from bb_planner_kvcache._states import MET, OVERLAP
from bb_planner_kvcache.config import KvCacheConfig

__all__ = ["Pieces", "Runs", "apart", "joined", "run_order"]


class Runs(NamedTuple):
    """Rows that touch, joined; one entry per run.

    Attributes:
        row: The first row of each run.
        start: First page.
        end: Last page.
        begin: Position of its first piece.
        due: Earliest deadline, for sorting.
        urgency: Least slack in fills.
        fanout: How many rows it serves.
        rank: Largest priority that was asked for.
        tenant: On whose account, -1 when it is on several.
        reach: The last page that moves: `end`, or less when a quota cuts it; written to.
        fate: What becomes of it, as index of `REASONS`; written to.
    """

    row: NDArray[np.intp]
    start: I64
    end: I64
    begin: NDArray[np.intp]
    due: I64
    urgency: NDArray[np.float64]
    fanout: I64
    rank: I64
    tenant: I64
    reach: I64
    fate: NDArray[np.int8]

    def turns(self, which: NDArray[np.intp]) -> tuple[I64, ...]:
        """Return columns that say which of some runs come first: who asked first breaks ties."""
        return -self.rank[which], self.due[which], self.row[which]

    @classmethod
    def of(
        cls,
        asked: Asked,
        row: NDArray[np.intp],
        urgency: NDArray[np.float64],
        begin: NDArray[np.intp],
    ) -> Runs:
        """Return the runs of sorted rows; one begins at each position in `begin`."""
        if not len(row):
            none, few = np.zeros(0, np.int64), np.zeros(0, np.int8)
            return cls(row, none, none, row, none, urgency, none, none, none, none, few)
        tenant = asked.tenant[row]
        least = np.minimum.reduceat(tenant, begin)
        end = np.maximum.reduceat(asked.end[row], begin)
        return cls(
            row=np.minimum.reduceat(row, begin),
            start=np.minimum.reduceat(asked.start[row], begin),
            end=end,
            begin=begin,
            due=np.minimum.reduceat(asked.due[row], begin),
            urgency=np.minimum.reduceat(urgency, begin),
            fanout=lengths_of(begin, len(row)),
            rank=np.maximum.reduceat(asked.priority[row], begin),
            tenant=np.where(least == np.maximum.reduceat(tenant, begin), least, -1),
            reach=end.copy(),
            fate=np.zeros(len(begin), np.int8),
        )


class Pieces(NamedTuple):
    """Parts of rows that are to be moved, with their rows."""

    row: NDArray[np.intp]
    start: I64
    end: I64


def run_order(asked: Asked, row: NDArray[np.intp], start: I64) -> NDArray[np.intp]:
    """Return the order in which pieces of one run follow one another."""
    return order_of(*(_of_rows(column, row) for column in _identity(asked)), start)


def _identity(asked: Asked) -> list[I64]:
    """Return the columns that pages of one run have alike."""
    bases = [one for one in (asked.src_base, asked.dst_base) if one is not None]
    return [asked.src, asked.dst, asked.stack, asked.layer, asked.page_bytes, *bases]


def joined(asked: Asked, config: KvCacheConfig, pieces: Pieces, urgency: Any) -> Runs:
    """Join pieces, which are sorted, to runs.

    A piece begins a run when it does not touch the furthest page so far, or when it only follows
    it and is of another prefix. Where rows overlap they are one run whatever their prefix, so that
    no page moves twice.
    """
    row, start, end = pieces
    if not len(row):
        return Runs.of(asked, row, urgency[row], row)
    first = starts(*(_of_rows(column, row) for column in _identity(asked)))
    furthest = running_ends(first, end)[:-1]
    first[1:] |= start[1:] > furthest + 1
    if config.prefix_fanout and asked.cluster.strides != (0,):
        cluster = asked.cluster[row]
        first[1:] |= (start[1:] == furthest + 1) & (cluster[1:] != cluster[:-1])
    begin = np.flatnonzero(first)
    runs = Runs.of(asked, row, urgency[row], begin)
    end = np.maximum.reduceat(end, begin)
    return runs._replace(start=start[begin], end=end, reach=end.copy())


def _of_rows(column: I64, row: NDArray[np.intp]) -> I64:
    """Return some rows of a column; one that is the same everywhere stays so."""
    return column[: len(row)] if column.strides == (0,) else column[row]


def apart(asked: Asked, runs: Runs, base: I64) -> None:
    """Put aside runs that would write where more urgent ones do.

    That happens where layers, or page sizes of one layer, are laid out over one another.
    """
    live = np.flatnonzero(runs.fate == MET)
    size = asked.page_bytes[runs.row[live]]
    low = base[live] + runs.start[live] * size
    high = base[live] + (runs.end[live] + 1) * size - 1
    place = asked.dst[runs.row[live]]
    order = order_of(place, low)
    if not len(live):
        return
    first = starts(place[order])
    clash = ~first
    clash[1:] &= low[order][1:] <= running_ends(first, high[order])[:-1]
    if not clash.any():
        return
    # Few clash: those that touch one another, most urgent first, keep their place.
    island = np.cumsum(~clash) - 1
    crowded = np.flatnonzero(np.bincount(island)[island] > 1)
    turn = order_of(*runs.turns(live[order[crowded]]))
    taken: dict[int, list[tuple[int, int]]] = {}
    for at in crowded[turn].tolist():
        here = order[at]
        span = int(low[here]), int(high[here])
        others = taken.setdefault(int(island[at]), [])
        if any(span[0] <= end and begin <= span[1] for begin, end in others):
            runs.fate[live[here]] = OVERLAP
        else:
            others.append(span)
