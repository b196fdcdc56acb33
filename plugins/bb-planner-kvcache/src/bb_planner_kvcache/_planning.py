"""One window, planned on columns: which pages move, in which pieces, and what becomes of the rest.

The stages, each a few passes over whole columns:

1. score and filter: what is popular or not late is looked at;
2. what cannot be done at all is put aside, what is held already is cut out;
3. tenants' quotas, row by row;
4. runs: rows of one place, layer and page size that touch become one move;
5. moves that are too small, or would write over one another, are put aside;
6. quotas of nodes and tiers, then the number of moves, least slack first;
7. what to drop, to keep in storage and to fetch when there is time.

A row ends in exactly one state. Nothing here reads a clock or makes messages of a plan.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bb_planner_kvcache._asked import KINDS, Asked
from bb_planner_kvcache._bcache import plan_as_bcache
from bb_planner_kvcache._columns import (
    FAR,
    Spans,
    codes_of,
    cut_out,
    fit,
    lengths_of,
    merged,
    order_of,
    starts,
)
from bb_planner_kvcache._evict import Victims, victims_of
from bb_planner_kvcache._hints import admitted, put_off
from bb_planner_kvcache._ops import ops_of
from bb_planner_kvcache._quotas import of_places, of_tenants
from bb_planner_kvcache._runs import Pieces, Runs, apart, joined, run_order
from bb_planner_kvcache._states import (
    COLD,
    HELD,
    LATE,
    LIMIT,
    MET,
    PARTIAL,
    QUOTA,
    RANGE,
    ROUTE,
    SMALL,
    TENANT,
)
from bb_planner_kvcache.config import KvCacheConfig
from bb_planner_kvcache.window import Window

__all__ = ["plan_window"]


def plan_window(asked: Asked, config: KvCacheConfig) -> Window:
    """Return the plan of a window.

    It takes time in proportion to n log n for n rows.

    Args:
        asked: The request.
        config: How to plan.
    """
    if config.compat == "bcache":
        return Window(*plan_as_bcache(asked, config), {})
    state = np.zeros(asked.size, np.int8)
    hits, weight = asked.joined_heat()
    urgency = _filtered(asked, config, state, config.alpha * hits + config.beta * weight)
    _possible(asked, config, state)
    pieces = _missing(asked, state)
    pieces = _tenants(asked, config, state, pieces)
    order = run_order(asked, pieces.row, pieces.start)
    pieces = Pieces(*(column[order] for column in pieces))
    runs = joined(asked, config, pieces, urgency)
    size = asked.page_bytes[runs.row]
    runs.fate[(runs.end - runs.start + 1) * size < config.min_io_bytes] = SMALL
    apart(asked, runs, asked.bases(runs.row, config.layer_bytes)[1])
    victims = victims_of(asked) if config.eviction else Victims.none(len(asked.places.tier))
    _fitted(asked, config, runs, victims)
    _limited(asked, config, runs)
    _settle(state, pieces, runs)
    chosen = np.flatnonzero(runs.fate == MET)
    chosen = chosen[order_of(*runs.turns(chosen))]
    ops = ops_of(asked, config, runs, chosen)
    return Window(
        ops,
        state,
        victims.evict(asked, ops),
        admitted(asked, config, hits) if config.admission else {},
        put_off(asked, config, runs),
    )


def _filtered(asked: Asked, config: KvCacheConfig, state: NDArray[np.int8], popularity: Any) -> Any:
    """Return slacks in fills; rows that are not worth a look are told so."""
    slack = np.where(asked.deadline_ns == 0, np.inf, (asked.deadline_ns - asked.now_ns) / 1e6)
    urgency = slack / np.maximum(asked.fill_ms, 1.0)
    dropped = ~((popularity > config.pmin) | (urgency > config.umin))
    state[dropped] = np.where(urgency[dropped] > 0, COLD, LATE)
    return urgency


def _possible(asked: Asked, config: KvCacheConfig, state: NDArray[np.int8]) -> None:
    """Put aside what cannot be moved, and what is there as it is asked from where it is."""
    medium = asked.places.medium
    if not asked.size:
        return
    kinds = KINDS[medium[asked.src], medium[asked.dst]]
    state[(kinds == 0) & (state == MET)] = ROUTE
    state[(asked.src == asked.dst) & (state == MET)] = HELD
    if asked.src_base is None or asked.dst_base is None:
        far = (asked.end + 1) * asked.page_bytes > config.layer_bytes
        far |= asked.layer >= FAR // config.layer_bytes
        state[far & (state == MET)] = RANGE


def _missing(asked: Asked, state: NDArray[np.int8]) -> Pieces:
    """Return what is to be moved: rows without what is held."""
    row = np.flatnonzero(state == MET)
    start, end = asked.start[row], asked.end[row]
    held = asked.held
    if held is None or not len(row):
        return Pieces(row, start, end)
    joint = codes_of(
        np.concatenate([asked.dst[row], held.place]),
        np.concatenate([asked.stack[row], held.stack]),
        np.concatenate([asked.layer[row], held.layer]),
        np.concatenate([asked.page_bytes[row], held.page_bytes]),
    )
    holes = merged(Spans(joint[len(row) :], held.start, held.end))
    owner, start, end = cut_out(Spans(joint[: len(row)], start, end), holes)
    state[row] = HELD
    state[row[owner]] = MET
    return Pieces(row[owner], start, end)


def _tenants(
    asked: Asked, config: KvCacheConfig, state: NDArray[np.int8], pieces: Pieces
) -> Pieces:
    """Return what is left of pieces by the quotas of tenants."""
    for caps_of in of_tenants(asked, config):
        group, cap = caps_of(pieces.row)
        unit = asked.page_bytes[pieces.row]
        size = (pieces.end - pieces.start + 1) * unit
        ranks = (-asked.priority[pieces.row], asked.due[pieces.row])
        taken = fit(group, cap, size, unit, *ranks)
        state[pieces.row[taken < size]] = TENANT
        state[pieces.row[(taken < size) & (taken > 0)]] = PARTIAL
        left = taken > 0
        end = pieces.start + taken // unit - 1
        pieces = Pieces(pieces.row[left], pieces.start[left], end[left])
    return pieces


def _fitted(asked: Asked, config: KvCacheConfig, runs: Runs, victims: Victims) -> None:
    """Hold runs against the quotas of nodes and tiers; the first of each may be cut."""
    for caps_of in of_places(asked, config, victims.bytes_by_place):
        live = np.flatnonzero(runs.fate == MET)
        group, cap = caps_of(runs.row[live])
        unit, start = asked.page_bytes[runs.row[live]], runs.start[live]
        size = (runs.reach[live] - start + 1) * unit
        taken = fit(group, cap, size, unit, *runs.turns(live))
        runs.fate[live[taken == 0]] = QUOTA
        runs.reach[live] = np.where(taken > 0, start + taken // unit - 1, runs.reach[live])


def _limited(asked: Asked, config: KvCacheConfig, runs: Runs) -> None:
    """Put aside what comes after the most moves to a place."""
    live = np.flatnonzero(runs.fate == MET)
    if len(live) <= config.max_ops_per_tier:
        return
    place = asked.dst[runs.row[live]]
    order = order_of(place, *runs.turns(live))
    begin = np.flatnonzero(starts(place[order]))
    nth = np.arange(len(order)) - np.repeat(begin, lengths_of(begin, len(order)))
    runs.fate[live[order[nth >= config.max_ops_per_tier]]] = LIMIT


def _settle(state: NDArray[np.int8], pieces: Pieces, runs: Runs) -> None:
    """Tell rows what became of their runs; those of which only a part moves are told so."""
    number = lengths_of(runs.begin, len(pieces.row))
    own, reach = np.repeat(runs.fate, number), np.repeat(runs.reach, number)
    own[(own == MET) & (pieces.end > reach)] = QUOTA  # what was cut off
    unmet = own != MET
    state[pieces.row[unmet]] = own[unmet]
    moves = np.zeros(len(state), np.bool_)
    moves[pieces.row[(np.repeat(runs.fate, number) == MET) & (pieces.start <= reach)]] = True
    state[moves & (state != MET)] = PARTIAL
