"""A window as the field's earlier planner plans it, faults included. For comparison only.

What it does otherwise than `_planning`: a second row of heat counts a demand twice; pages are
compared with the row before instead of the furthest one, so that pages may move twice; a run of
several page sizes is billed with the largest; one move that is too large keeps all after it from
moving; and room is summed over nodes, and so is what is dropped for it. An empty request is
refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bb_planner_kvcache._asked import Asked
from bb_planner_kvcache._columns import FAR, I64, constant, grouped_sums, starts
from bb_planner_kvcache._hints import admitted
from bb_planner_kvcache._ops import ops_of
from bb_planner_kvcache._runs import Runs
from bb_planner_kvcache._states import COLD, LATE, LIMIT, MET, QUOTA, SMALL, TENANT
from bb_planner_kvcache.config import KvCacheConfig
from bb_roles.errors import UnplannableRequest

__all__ = ["Compared", "plan_as_bcache"]

Compared = tuple[dict[str, NDArray[Any]], NDArray[np.int8], dict[str, I64], dict[str, I64]]


def plan_as_bcache(asked: Asked, config: KvCacheConfig) -> Compared:
    """Return moves, states, pages to drop and pages to keep.

    Raises:
        UnplannableRequest: Nothing is asked for.
    """
    if not asked.size:
        raise UnplannableRequest(
            "nothing is asked for", expected="a demand, as compat='bcache' needs one"
        )
    state = np.zeros(asked.size, np.int8)
    row, hits, weight = _with_heat(asked)
    slack = np.where(
        asked.deadline_ns[row] == 0, np.inf, (asked.deadline_ns[row] - asked.now_ns) / 1e6
    )
    urgency = slack / np.maximum(asked.fill_ms[row], 1.0)
    kept = (config.alpha * hits + config.beta * weight > config.pmin) | (urgency > config.umin)
    state[row[~kept]] = np.where(urgency[~kept] > 0, COLD, LATE)
    row, urgency = row[kept], urgency[kept]
    within = _within_credits(asked, config, row)
    state[row[~within]] = TENANT
    row, urgency = row[within], urgency[within]
    runs, pages, number, row = _joined(asked, row, urgency)
    size = np.maximum.reduceat(asked.page_bytes[row], runs.begin) if len(row) else pages
    length = pages * size
    fate = runs.fate
    fate[length < config.min_io_bytes] = SMALL
    if config.enforce_tier_caps:
        _cap(asked, runs, length, fate)
    _limit(asked, config, runs, fate)
    state[row] = fate[number]
    chosen = np.flatnonzero(fate == MET)
    chosen = chosen[np.lexsort((runs.due[chosen],))]
    ops = ops_of(asked, config, runs, chosen)
    ops["bytes"], ops["page_bytes"] = length[chosen], size[chosen]
    evict = _evict(asked, ops) if config.eviction else {}
    return (
        ops,
        state,
        evict,
        admitted(asked, config, asked.joined_heat()[0]) if config.admission else {},
    )


def _with_heat(asked: Asked) -> tuple[NDArray[np.intp], Any, Any]:
    """Join each demand with all rows of heat of its first page."""
    row = np.arange(asked.size)
    heat = asked.heat
    if heat is None:
        return row, np.zeros(asked.size), np.ones(asked.size)
    found: dict[tuple[int, int], list[int]] = {}
    for at, key in enumerate(zip(heat.layer.tolist(), heat.page.tolist(), strict=True)):
        found.setdefault(key, []).append(at)
    keys = zip(asked.layer.tolist(), asked.start.tolist(), strict=True)
    pairs = [(one, at) for one, key in enumerate(keys) for at in found.get(key, [-1])]
    left, right = np.array(pairs).T
    known = right >= 0
    return left, np.where(known, heat.hits[right], 0), np.where(known, heat.weight[right], 1)


def _within_credits(asked: Asked, config: KvCacheConfig, row: NDArray[np.intp]) -> Any:
    within = np.ones(len(row), np.bool_)
    caps = asked.tenant_caps
    if not config.tenant_credits or caps is None or not len(row):
        return within
    dst, tenant = asked.dst[row], asked.tenant[row]
    cap = np.full(len(row), FAR)
    for one, tier, limit in zip(*map(np.ndarray.tolist, caps), strict=True):
        cap[(tenant == one) & (asked.places.tier[dst] == tier)] = limit
    order = np.lexsort((asked.due[row], tenant, dst))
    size = (asked.end[row] - asked.start[row] + 1) * asked.page_bytes[row]
    sums = grouped_sums(size[order], starts(dst[order], tenant[order]))
    within[order] = sums <= cap[order]
    return within


def _joined(
    asked: Asked, row: NDArray[np.intp], urgency: Any
) -> tuple[Runs, I64, I64, NDArray[np.intp]]:
    """Return runs, how many pages each is billed, and for each sorted row its run."""
    if not len(row):
        nothing = np.zeros(0, np.int64)
        return Runs.of(asked, row, urgency, row), nothing, nothing, row
    columns = (asked.src, asked.dst, asked.cluster, asked.layer, asked.start, asked.end)
    order = np.lexsort(tuple(column[row] for column in columns[::-1]))
    row, urgency = row[order], urgency[order]
    first = starts(*(column[row] for column in columns[:4]))
    start, end = asked.start[row], asked.end[row]
    first[1:] |= start[1:] > end[:-1] + 1
    begin = np.flatnonzero(first)
    number = np.cumsum(first) - 1
    furthest = end.copy()
    for low, high in zip(begin, np.append(begin[1:], len(row)), strict=True):
        np.maximum.accumulate(end[low:high], out=furthest[low:high])
    fresh = end - start + 1
    later = ~first
    fresh[later] = np.maximum(0, end[later] - np.maximum(start, _before(furthest) + 1)[later] + 1)
    runs = Runs.of(asked, row, urgency, begin)
    return runs, np.add.reduceat(fresh, begin), number, row


def _before(column: I64) -> I64:
    return np.concatenate([constant(-1, 1), column[:-1]])


def _cap(asked: Asked, runs: Runs, length: I64, fate: NDArray[np.int8]) -> None:
    """Let moves pass while their running sum stays within the cap."""
    live = np.flatnonzero(fate == MET)
    src, dst = asked.src[runs.row[live]], asked.dst[runs.row[live]]
    order = np.lexsort((runs.due[live], src, dst))
    sums = grouped_sums(length[live][order], starts(dst[order], src[order]))
    cap = np.minimum(asked.bandwidth, asked.free)[dst[order]]
    fate[live[order[sums > cap]]] = QUOTA


def _limit(asked: Asked, config: KvCacheConfig, runs: Runs, fate: NDArray[np.int8]) -> None:
    live = np.flatnonzero(fate == MET)
    place = asked.dst[runs.row[live]]
    order = np.lexsort((runs.due[live], place))
    nth = grouped_sums(np.ones(len(live), np.int64), starts(place[order]))
    fate[live[order[nth > config.max_ops_per_tier]]] = LIMIT


def _evict(asked: Asked, ops: dict[str, NDArray[Any]]) -> dict[str, I64]:
    """Drop the coldest pages that are known, short of what all tiers lack together."""
    heat = asked.heat
    if heat is None:
        return {}
    lacking = 0
    for tier in np.unique(ops["tier_dst"]).tolist():
        room = int(asked.free[asked.places.tier == tier].min())
        lacking += max(0, int(ops["bytes"][ops["tier_dst"] == tier].sum()) - room)
    order = np.argsort(heat.hits, kind="stable")
    gone = order[np.cumsum(heat.size[order]) <= lacking]
    return {
        "place": np.full(len(gone), -1),
        "layer": heat.layer[gone],
        "page_start": heat.page[gone],
        "page_end": heat.page[gone],
        "page_bytes": heat.size[gone],
        "row": np.full(len(gone), -1),
    }
