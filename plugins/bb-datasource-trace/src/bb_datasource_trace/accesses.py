"""Reduces a trace to the pages that its requests use, in order: what a simulated cache is given."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

import polars as pl

from bb_datasource_trace._pages import blocks_of, pages_of
from bb_datasource_trace._reduction import Opened, Plan, Reduction, numbered
from bb_datasource_trace.traces import open_trace
from bb_roles.limits import Limits, check_limits

__all__ = ["Accesses"]


@dataclass(frozen=True, kw_only=True)
class Accesses(Reduction):
    """Makes one table, `accesses`: a row for each block of each request, in the order of the trace.

    Its columns are `req_id`, the number of the row of the trace; `ts_ns`; `node` and `model`,
    numbers into the names; `position` in the prompt; and `page_id`, the same number as in the
    tables of `CacheReduction`.

    Attributes:
        now_ns: Requests up to this time; all of them when it is left out.
    """

    kind: ClassVar[str] = "accesses"
    stages: ClassVar[tuple[str, ...]] = ("input", "name", "place")

    now_ns: Annotated[int | None, Limits(0, 1 << 62, unit="ns")] = None

    def __post_init__(self) -> None:
        check_limits(self)

    def open(self, path: Path) -> Opened:
        """Open a trace and check it.

        Raises:
            TraceUnreadable: There is no such file, or it is neither parquet nor Arrow.
            TraceMismatch: A column is missing, or of another kind.
            TraceRowInvalid: A row cannot be.
        """
        trace = open_trace(path)
        return Opened(trace.rows, trace.last_ns)

    def settled(self, log: Opened) -> Accesses:
        """Return the reduction with `now_ns` told."""
        return self if self.now_ns is not None else replace(self, now_ns=log.last_ns)

    def plan(self, rows: pl.LazyFrame) -> Plan:
        """Return the plan; `now_ns` has to be told, by `settled`."""
        past = rows.filter(pl.col("ts_ns") <= (self.now_ns or 0))
        names = {name: numbered(past, name) for name in ("node", "model")}
        events = past.join(names["node"], on="node").join(names["model"], on="model")
        blocks = blocks_of(events, "node_id")
        placed = blocks.join(pages_of(blocks), on=["model_id", "hash"]).sort("event", "position")
        accesses = placed.select(
            pl.col("event").alias("req_id"),
            "ts_ns",
            pl.col("node_id").alias("node"),
            pl.col("model_id").alias("model"),
            "position",
            pl.col("page").alias("page_id"),
        )
        return Plan({"accesses": accesses}, names)
