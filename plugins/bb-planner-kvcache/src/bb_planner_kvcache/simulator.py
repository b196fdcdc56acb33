"""What a window or a cache would do, without moving anything.

`stream_times` runs the moves of a window on the streams of their tiers. `hits` runs a trace of
pages through a cache and says which of them were there. Both take columns, are exact, draw no
random numbers and read no clock: the same trace gives the same answer everywhere.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bb_planner_kvcache._columns import FAR
from bb_planner_kvcache._policies import POLICIES, Policy
from bb_planner_kvcache.errors import BadColumn

__all__ = ["Outcome", "Policy", "compare", "hits", "stream_times"]


class Outcome(NamedTuple):
    """What became of the moves of a window.

    Attributes:
        timeliness: Share of the moves that were done before their layer was reached; 1 of none.
        avg_finish_ms: When a move was done, on average, in ms after the window began.
        avg_io_bytes: Bytes of a move, on average.
        ops: How many moves.
        finish_ms: When each move was done, shape (n,).
    """

    timeliness: float
    avg_finish_ms: float
    avg_io_bytes: float
    ops: int
    finish_ms: NDArray[np.float64]


def stream_times(
    ops: Mapping[str, NDArray[Any]],
    *,
    window_ms: float,
    tier_caps: Mapping[int, int],
    layer_ms: Mapping[int, float],
    streams: int = 4,
) -> Outcome:
    """Run the moves of a window on streams, those of least slack first.

    Each tier of each node has some streams with equal shares of what the tier takes in a window. A
    move goes to the stream that is free first, and takes as long as its bytes at that share,
    divided by its `overlap`. It is on time when it is done before the layers up to its own have
    been computed.

    Args:
        ops: The columns `Window.ops`.
        window_ms: Length of the window, in ms.
        tier_caps: Bytes that a tier takes in a window, by its number; others take no time.
        layer_ms: How long each layer computes, in ms; others 1.
        streams: Streams of each tier of each node.

    Raises:
        BadColumn: There are no streams, or a tier takes nothing.
    """
    if streams < 1 or any(cap < 1 for cap in tier_caps.values()):
        raise BadColumn(
            f"{streams} streams, tiers of {dict(tier_caps)} bytes", expected="1 or more of each"
        )
    size = len(ops["bytes"])
    if not size:
        return Outcome(1.0, 0.0, 0.0, 0, np.zeros(0))
    tiers = sorted({*ops["tier_dst"].tolist()})
    cap = np.array([float(tier_caps.get(one, FAR)) for one in tiers])[
        np.searchsorted(tiers, ops["tier_dst"])
    ]
    share = cap / streams
    takes = ops["bytes"] / np.minimum(ops["overlap"], streams) / share * window_ms
    order = np.lexsort((ops["priority"], ops["tier_dst"], ops["node"]))
    place = np.stack([ops["node"][order], ops["tier_dst"][order]])
    new = np.ones(size, np.bool_)
    new[1:] = (place[:, 1:] != place[:, :-1]).any(axis=0)
    finish = np.zeros(size)
    finish[order] = _finish(takes[order].tolist(), new.tolist(), streams)
    reached = _reached(ops["layer"], layer_ms)
    return Outcome(
        float((finish <= reached).mean()), float(finish.mean()), float(ops["bytes"].mean()), size,
        finish,
    )  # fmt: skip


def hits(pages: NDArray[Any], capacity: int, policy: Policy = "lru") -> NDArray[np.bool_]:
    """Return which pages of a trace were in a cache when they were asked for, shape (n,).

    A page that was not there is brought in, and takes the room of another one when there is none.

    `lru` drops the page that was asked for longest ago, `fifo` the one that came first. `sieve`
    walks from the oldest page on, spares once whoever was asked for since, and drops the next
    (Zhang et al., NSDI 2024). `s3fifo` has a small queue of a tenth of the room for newcomers, a
    large one for those that were asked for again, and remembers who was sent away from the small
    one (Yang et al., SOSP 2023). `heat` drops the page with the fewest hits, of which each counts
    half as much after as many further requests as there is room for pages, 64 at least.

    Args:
        pages: Numbers of pages in the order in which they are asked for, shape (n,).
        capacity: How many pages there is room for.
        policy: Which page makes room.

    Raises:
        BadColumn: The trace is no one-dimensional integer array, there is no room, or there is no
            such policy.
    """
    given: Any = pages
    if not isinstance(given, np.ndarray) or pages.ndim != 1 or pages.dtype.kind not in "iu":
        raise BadColumn(f"pages is {pages!r:.60}", expected="a one-dimensional integer array")
    if capacity < 1:
        raise BadColumn(f"capacity is {capacity}", expected="1 page or more")
    if policy not in POLICIES:
        raise BadColumn(f"policy is {policy!r}", expected=f"one of {', '.join(POLICIES)}")
    known, trace = np.unique(pages, return_inverse=True)
    found = POLICIES[policy](trace.reshape(-1).tolist(), len(known), capacity)
    return np.frombuffer(found, np.bool_).copy()


def compare(pages: NDArray[Any], capacity: int) -> dict[str, float]:
    """Return the share of hits of every policy on one trace; 0 for an empty one.

    Args:
        pages: Numbers of pages in the order in which they are asked for, shape (n,).
        capacity: How many pages there is room for.

    Raises:
        BadColumn: As `hits` does.
    """
    found = {name: hits(pages, capacity, name) for name in POLICIES}
    return {name: float(one.mean()) if len(one) else 0.0 for name, one in found.items()}


def _finish(takes: list[float], new: list[bool], streams: int) -> list[float]:
    """Return when each move is done; moves come by place, and `new` tells where one begins."""
    free: list[float] = []
    found: list[float] = []
    done, replace = found.append, heapq.heapreplace
    for one, first in zip(takes, new, strict=True):
        if first:
            free = [0.0] * streams
        end = free[0] + one
        replace(free, end)
        done(end)
    return found


def _reached(layer: NDArray[Any], layer_ms: Mapping[int, float]) -> NDArray[np.float64]:
    """Return when each layer has been computed, together with all before it."""
    known = np.unique(layer)
    told = np.array([*layer_ms], np.int64)
    order = np.argsort(told, kind="stable")
    extra = np.array([*layer_ms.values()], np.float64)[order] - 1.0
    sums = np.concatenate([[0.0], np.cumsum(extra)])
    ends = known + 1 + sums[np.searchsorted(told[order], known, "right")]
    return np.asarray(ends[np.searchsorted(known, layer)], np.float64)
