"""The moves of a window, as columns."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bb_planner_kvcache._asked import Asked
from bb_planner_kvcache._columns import FAR, I64
from bb_planner_kvcache._runs import Runs
from bb_planner_kvcache.config import KvCacheConfig

__all__ = ["OP_COLUMNS", "ops_of", "streams"]

#: The columns of `Window.ops`. `start_pid` and `end_pid` are the first and the last page, `run_id`
#: the number of the run that a move is made of, `priority` the slack in fills (float64; infinite
#: when there is no deadline), `rank` the largest priority that was asked for, `row` the first row
#: of its run. `src` and `dst` number places; `deadline_ns` and `deadline_ms` are 0 for none.
OP_COLUMNS: Final = (
    "node", "tier_src", "tier_dst", "pcluster", "layer", "run_id", "bytes", "deadline_ms", "fanout",
    "overlap", "priority", "start_pid", "end_pid", "page_bytes", "src", "dst", "tenant", "rank",
    "row", "src_offset", "dst_offset", "deadline_ns",
)  # fmt: skip


def ops_of(
    asked: Asked, config: KvCacheConfig, runs: Runs, chosen: NDArray[np.intp]
) -> dict[str, NDArray[Any]]:
    """Return the moves that chosen runs become, by the names in `OP_COLUMNS`."""
    row = runs.row[chosen]
    start, last, size = runs.start[chosen], runs.reach[chosen], asked.page_bytes[row]
    src, dst, places = asked.src[row], asked.dst[row], asked.places
    base = asked.bases(row, config.layer_bytes)
    length = (last - start + 1) * size
    urgency = runs.urgency[chosen]
    due = _earliest(asked, runs.due[chosen])
    return {
        "node": places.node[dst],
        "tier_src": places.tier[src],
        "tier_dst": places.tier[dst],
        "pcluster": asked.cluster[row],
        "layer": asked.layer[row],
        "run_id": chosen.astype(np.int64),
        "bytes": length,
        "deadline_ms": due // 10**6,
        "fanout": runs.fanout[chosen],
        "overlap": streams(asked, config, length, dst, asked.layer[row]),
        "priority": urgency,
        "start_pid": start,
        "end_pid": last,
        "page_bytes": size,
        "src": src,
        "dst": dst,
        "tenant": runs.tenant[chosen],
        "rank": runs.rank[chosen],
        "row": row.astype(np.int64),
        "src_offset": base[0] + start * size,
        "dst_offset": base[1] + start * size,
        "deadline_ns": due,
    }


def _earliest(asked: Asked, due: I64) -> I64:
    """Return deadlines in nanoseconds; 0 for those that have none."""
    if not asked.size or not (asked.deadline_ns == 0).any():
        return due * asked.tick_ns
    return np.where(due == int(asked.due.max()), 0, due * asked.tick_ns)


def streams(asked: Asked, config: KvCacheConfig, length: I64, dst: I64, layer: I64) -> I64:
    """Return into how many streams each move is cut: 1 to 3.

    A second one when the move takes longer than its layer computes, at the rate of its tier, and a
    third when it takes more than twice as long. A layer of unknown latency computes for 1 ms.
    """
    if not config.overlap or not len(length):
        return np.ones(len(length), np.int64)
    latency = np.ones(len(length))
    if asked.latency is not None:
        order = np.argsort(asked.latency[0], kind="stable")
        layers, told = asked.latency[0][order], asked.latency[1][order]
        at = np.minimum(np.searchsorted(layers, layer), len(layers) - 1)
        latency = np.where(layers[at] == layer, told[at], 1.0)
    cap = asked.bandwidth[dst]
    takes = np.where(cap < FAR, length / np.maximum(cap, 1) * asked.window_ms, 0.0)
    return 1 + (takes > latency).astype(np.int64) + (takes > 2 * latency)
