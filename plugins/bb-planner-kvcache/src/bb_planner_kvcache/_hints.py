"""What a plan says beyond its moves: pages to keep in storage, and to fetch when there is time."""

from __future__ import annotations

from typing import Any

import numpy as np

from bb_planner_kvcache._asked import Asked
from bb_planner_kvcache._columns import I64, order_of, starts
from bb_planner_kvcache._runs import Runs
from bb_planner_kvcache._states import LIMIT, MET, QUOTA, SMALL
from bb_planner_kvcache.config import KvCacheConfig

__all__ = ["admitted", "put_off"]


def admitted(asked: Asked, config: KvCacheConfig, hits: Any) -> dict[str, I64]:
    """Return the first pages of demands that were hit often enough, each once."""
    row = np.flatnonzero(np.broadcast_to(hits, asked.size) >= config.reuse_hits)
    if not len(row):
        return {}
    columns = asked.stack[row], asked.layer[row], asked.page_bytes[row], asked.start[row]
    order = order_of(*columns)
    once = row[order[starts(*(column[order] for column in columns))]]
    once.sort()
    return {
        "layer": asked.layer[once],
        "page": asked.start[once],
        "page_bytes": asked.page_bytes[once],
        "row": once.astype(np.int64),
    }


def put_off(asked: Asked, config: KvCacheConfig, runs: Runs) -> dict[str, I64]:
    """Return the runs, and what was cut from them, that only quotas and sizes kept from moving."""
    fate, reach = runs.fate, runs.reach
    whole = (fate == QUOTA) | (fate == LIMIT) | (fate == SMALL)
    cut = (fate == MET) & (reach < runs.end)
    found = np.flatnonzero(whole | cut)
    if not len(found) or not config.max_prefetch:
        return {}
    order = order_of(*runs.turns(found))
    found = found[order[: config.max_prefetch]]
    row = runs.row[found]
    return {
        "layer": asked.layer[row],
        "page_start": np.where(cut[found], reach[found] + 1, runs.start[found]),
        "page_end": runs.end[found],
        "page_bytes": asked.page_bytes[row],
        "dst": asked.dst[row],
        "row": row.astype(np.int64),
    }
