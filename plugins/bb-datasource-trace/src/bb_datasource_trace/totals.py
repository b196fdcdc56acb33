"""The simplest reduction: how often each key occurs in a log, and the sum of a column over it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import polars as pl

from bb_datasource_trace._reduction import Opened, Plan, Reduction, numbered
from bb_datasource_trace.traces import (
    check_columns,
    check_rows,
    no_nulls,
    reading,
    scan,
    with_events,
)
from bb_roles.limits import Limits, check_limits

__all__ = ["Totals"]


@dataclass(frozen=True, kw_only=True)
class Totals(Reduction):
    """Counts rows and sums a column by key: what each tenant asks for, say.

    It makes one table, `totals`: `key_id`, which counts the names `key`; `rows`; and `total`, the
    sum modulo 2**64.

    Attributes:
        key: Column of texts.
        value: Column of whole numbers.
        factor: What each number is multiplied with before.
    """

    kind: ClassVar[str] = "totals"
    stages: ClassVar[tuple[str, ...]] = ("input", "transform", "aggregate")

    key: str = "tenant"
    value: str = "in_tokens"
    factor: Annotated[int, Limits(1, 1 << 20)] = 1

    def __post_init__(self) -> None:
        check_limits(self)

    def open(self, path: Path) -> Opened:
        """Open any parquet or Arrow file that has both columns.

        Raises:
            TraceUnreadable: There is no such file, or it is neither.
            TraceMismatch: A column is missing, or of another kind.
            TraceRowInvalid: A key or a number is null.
        """
        wanted = {self.key: pl.String(), self.value: pl.Int64()}
        with reading(path):
            found = scan(path)
            check_columns(path, found.collect_schema(), wanted)
            # Under names of ours: a log may have a column `event`, too.
            named = found.select(key=self.key, value=self.value)
            rows = with_events(named, {"key": pl.String(), "value": pl.Int64()})
            tests = no_nulls({"key": self.key, "value": self.value})
            check_rows(rows, tests, repr(str(path)), rows.select(pl.len()))
        return Opened(rows)

    def settled(self, log: Opened) -> Totals:
        """Return the reduction as it is: it leaves nothing open."""
        return self

    def plan(self, rows: pl.LazyFrame) -> Plan:
        """Return the plan: number the keys, multiply, and sum by key."""
        keyed = rows.select("key", pl.col("value") * self.factor)
        keys = numbered(keyed, "key")
        by_key = keyed.join(keys, on="key").group_by("key_id")
        totals = by_key.agg(rows=pl.len().cast(pl.Int64), total=pl.col("value").sum())
        return Plan({"totals": totals.sort("key_id")}, {"key": keys})
