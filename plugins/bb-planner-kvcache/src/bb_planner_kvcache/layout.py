"""Where layers lie in a place, when nobody has said so: one after the other, without gaps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bb_planner_kvcache._columns import I64, order_of, starts
from bb_roles import CacheTables

__all__ = ["packed"]

_IDENTITY = ("model", "model_id", "model_version", "head", "layer", "page_bytes")


def packed(tables: CacheTables) -> tuple[CacheTables, int]:
    """Return tables with `src_base` and `dst_base`, and the bytes that each place needs.

    Every combination of model, head, layer and page size has room for all of its pages that any
    row asks for, in the same place in all sources and destinations. It is meant for one window, or
    for a trial: another window may need other room. A cache that lives on has a layout of its own.
    """
    columns = [tables.requests[name] for name in _IDENTITY if name in tables.requests]
    size = tables.requests.get("page_bytes", ())
    if not len(size):
        return tables, 0
    order = order_of(*columns)
    first = starts(*(column[order] for column in columns))
    begin = np.flatnonzero(first)
    room = (np.maximum.reduceat(tables.requests["page_end"][order], begin) + 1) * size[order][begin]
    base = np.zeros(len(size), np.int64)
    ends: I64 = np.cumsum(room)
    base[order] = (ends - room)[np.cumsum(first) - 1]
    requests = {**tables.requests, "src_base": base, "dst_base": base}
    return replace(tables, requests=requests), int(ends[-1])
