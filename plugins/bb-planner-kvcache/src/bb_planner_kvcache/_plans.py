"""A planned window, as a plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bb_ir.plan import CachePlan, KvPageRef, Rejected, TransferKind, TransferOp
from bb_planner_kvcache._asked import KINDS, Asked, PageName
from bb_planner_kvcache._states import HELD, REASONS
from bb_planner_kvcache.window import Window
from bb_roles.errors import UnplannableRequest

__all__ = ["cache_plan"]

#: Most entries of a list in a plan.
_MOST: Final = 1 << 20
_SLACKEST: Final = 1 << 31

_DETAILS: Final = {
    "cold": "neither popular nor urgent enough (pmin, umin)",
    "late": "its deadline is over, and it is not popular enough (pmin)",
    "route": "no kind of move goes from its source to its destination; go by way of host memory",
    "range": "it reaches past the room of its layer (layer_bytes)",
    "overlap": "it would write where a more urgent move writes",
    "tenant": "its tenant has no credit left in this window",
    "small": "its move would be too small (min_io_bytes)",
    "quota": "no room is left in this window at its destination",
    "limit": "more urgent moves are as many as may be (max_ops_per_tier)",
    "partial": "a part of it moves; what is left belongs in the next window",
}


def cache_plan(asked: Asked, window: Window) -> CachePlan:
    """Return the plan of a window.

    Raises:
        UnplannableRequest: More requests are rejected than a plan can hold.
    """
    return CachePlan(
        f"kvcache-{asked.now_ns}",
        tuple(_ops(asked, window.ops)),
        tuple(_prefetch(asked, window)),
        tuple(_evict(asked, window)),
        asked.window_ms,
        asked.now_ns,
        tuple(_admission(asked, window)),
        tuple(_rejected(asked, window.state)),
    )


def _rows(columns: dict[str, NDArray[Any]]) -> Iterator[dict[str, Any]]:
    lists = [column.tolist() for column in columns.values()]
    for values in zip(*lists, strict=True):
        yield dict(zip(columns, values, strict=True))


def _ref(asked: Asked, name: PageName, one: Mapping[str, int], place: int) -> KvPageRef:
    node, tier = _where(asked, place)
    first, last = one["page_start"], one["page_end"]
    return KvPageRef(
        name.tensor, first, name.head, one["layer"], name.model, node, tier, last - first + 1,
        one["page_bytes"],
    )  # fmt: skip


def _where(asked: Asked, place: int) -> tuple[str, int]:
    if place < 0 or asked.places.node[place] < 0:
        return "", 0
    return asked.places.nodes[int(asked.places.node[place])], int(asked.places.tier[place])


def _ops(asked: Asked, ops: dict[str, NDArray[Any]]) -> Iterator[TransferOp]:
    medium = asked.places.medium
    for op in _rows(ops):
        src, dst = asked.places.text(op["src"]), asked.places.text(op["dst"])
        pages = {**op, "page_start": op["start_pid"], "page_end": op["end_pid"]}
        ref = _ref(asked, asked.name(op["row"]), pages, op["dst"])
        yield TransferOp(
            TransferKind(int(KINDS[medium[op["src"]], medium[op["dst"]]])),
            src, dst, op["bytes"], op["src_offset"], op["dst_offset"], (ref,),
            lane=f"{src}>{dst}", deadline_ns=op["deadline_ns"],
            priority=op["rank"] * 2**32 - _slack(op["priority"]),
            tenant=asked.tenants(op["tenant"]), fanout=op["fanout"], overlap=op["overlap"],
        )  # fmt: skip


def _slack(fills: float) -> int:
    return int(max(-_SLACKEST, min(_SLACKEST, np.floor(fills))))


def _prefetch(asked: Asked, window: Window) -> Iterator[KvPageRef]:
    for one in _rows(window.prefetch):
        yield _ref(asked, asked.name(one["row"]), one, one["dst"])


def _evict(asked: Asked, window: Window) -> Iterator[KvPageRef]:
    for one in _rows(window.evict):
        known = asked.held is not None and one["row"] >= 0
        name = asked.held.name(one["row"]) if asked.held and known else PageName()
        yield _ref(asked, name, one, one["place"])


def _admission(asked: Asked, window: Window) -> Iterator[KvPageRef]:
    for one in _rows(window.admission):
        pages = {**one, "page_start": one["page"], "page_end": one["page"]}
        yield _ref(asked, asked.name(one["row"]), pages, -1)


def _rejected(asked: Asked, state: NDArray[np.int8]) -> Iterator[Rejected]:
    """Yield each request of which a row is rejected, with the reason of its first such row."""
    rows = np.flatnonzero(state > HELD)
    if len(rows) > _MOST:
        raise UnplannableRequest(
            f"{len(rows)} demands are rejected, more than a plan can list",
            expected=f"at most {_MOST}",
            fix="plan smaller windows, or take `columns` of this planner",
        )
    told: set[str] = set()
    for row, why in zip(rows.tolist(), state[rows].tolist(), strict=True):
        request = asked.requests(row)
        if request not in told:
            told.add(request)
            yield Rejected(request, REASONS[why], _DETAILS[REASONS[why]])
