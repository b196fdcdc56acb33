"""Reduces a trace of requests to what a planner of KV caches needs: five tables.

How requests become pages:

- A block of a prompt is one page in each layer. Blocks get page numbers in the order in which they
  first come in the trace, counted over all models: what one request brought first lies side by
  side, as it would be appended to storage, and a number stands for one block of one model. The
  same block has the same number on all nodes.
- A request asks for the pages of its leading blocks that an earlier request has brought (with
  `fetch="all"` for those of all its blocks): behind the first new block nothing can be reused. Per
  layer it is one row for each run of consecutive pages.
- Requests are pending that came in the window that ends at `now_ns`: from `window_ms` before it,
  exclusively, up to it.
- Heat counts the requests that used a page up to `horizon_ms` before, each with a weight that is
  one half after `half_life_ms`, one quarter after twice that, and so on, linear in between. Weights
  are multiples of 2**-16, so that their sums do not depend on the order of summing.

Columns are those of `bb_roles.planner.CacheTables`, all int64; texts (nodes, tenants, models) are
numbers in the order of their names, and `req_id` is the number of the row of the trace. A digest
names model and version at once: `model` and `model_id` are equal, and `model_version` is 0. What a
trace does not tell (rates, room, quotas, times of layers) are parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import polars as pl

from bb_datasource_trace._pages import blocks_of, pages_of
from bb_datasource_trace._reduction import Opened, Plan, Reduction, numbered
from bb_datasource_trace.traces import MOST_BLOCKS, open_trace
from bb_roles.data import DataError
from bb_roles.limits import Limits, check_limits

__all__ = ["CacheReduction", "Tenant", "Tier"]

_MIB = 1 << 20
_MS = 1_000_000
#: A weight of one, in the whole numbers that are summed.
_ONE = 1 << 16
_FAR = 366 * 86_400_000
#: What planners take for no limit: more than anything has bytes.
_NO_LIMIT = 1 << 62

Ms = Annotated[int, Limits(1, _FAR, unit="ms")]


@dataclass(frozen=True)
class Tier:
    """A kind of memory: 0 is storage, 1 host memory, 2 and above are devices.

    Attributes:
        tier: Its number.
        bytes_per_s: What can be moved into or out of it on one node.
        free_bytes: What it has room for on one node.
    """

    tier: Annotated[int, Limits(0, 255)]
    bytes_per_s: Annotated[int, Limits(1, 1 << 40, unit="bytes/s")]
    free_bytes: Annotated[int, Limits(0, 1 << 60, unit="bytes")]

    def __post_init__(self) -> None:
        check_limits(self)


@dataclass(frozen=True)
class Tenant:
    """What is agreed with a tenant.

    Attributes:
        name: As the trace has it.
        window_bytes: What may be moved for it in one window, into each tier of a node.
        weight: How much its pages count.
    """

    name: str
    window_bytes: Annotated[int, Limits(0, 1 << 60, unit="bytes")] = 32 * _MIB
    weight: Annotated[int, Limits(0, 1 << 20)] = 1

    def __post_init__(self) -> None:
        check_limits(self)


#: 60, 200 and 500 MiB in 20 ms.
_TIERS = (
    Tier(0, 3000 * _MIB, 1 << 40),
    Tier(1, 10_000 * _MIB, 64 << 30),
    Tier(2, 25_000 * _MIB, 16 << 30),
)


@dataclass(frozen=True, kw_only=True)
class CacheReduction(Reduction):
    """Makes the five tables `requests`, `heat`, `tier_caps`, `tenant_caps` and `layer_latency`.

    Attributes:
        now_ns: When the planner's window begins, on the clock of the trace; the time of the last
            request when it is left out.
        window_ms: How long a window is: requests of the one before are pending, and bandwidths
            are bytes in one.
        horizon_ms: How far back requests count as heat.
        half_life_ms: After so long they count half.
        layers: Number of layers of the models.
        layer_ms: What a layer takes to compute, rounded to milliseconds.
        page_bytes: Size of a page: of one block in one layer.
        slo_ms: When pages are due after their request came, where the trace says nothing.
        fetch: `seen` asks for leading blocks that were there before, `all` for all blocks.
        prefix_blocks: Requests with the same so many leading blocks have one `prefix_id`.
        tier_src: Where pages are.
        tier_dst: Where they are needed.
        tiers: Rates and room.
        tenants: Quotas and weights.
        tenant_window_bytes: Quota of a tenant that is not among `tenants`.
    """

    kind: ClassVar[str] = "cache"
    stages: ClassVar[tuple[str, ...]] = ("input", "name", "place", "window", "decay", "aggregate")

    now_ns: Annotated[int | None, Limits(0, 1 << 62, unit="ns")] = None
    window_ms: Ms = 20
    horizon_ms: Ms = 600_000
    half_life_ms: Ms = 60_000
    layers: Annotated[int, Limits(1, 4096)] = 8
    layer_ms: Annotated[int, Limits(1, 1_000_000, unit="ms")] = 5
    page_bytes: Annotated[int, Limits(1, 1 << 30, unit="bytes")] = 256 << 10
    slo_ms: Ms = 1000
    fetch: Literal["seen", "all"] = "seen"
    prefix_blocks: Annotated[int, Limits(1, MOST_BLOCKS)] = 1
    tier_src: Annotated[int, Limits(0, 255)] = 0
    tier_dst: Annotated[int, Limits(0, 255)] = 1
    tiers: tuple[Tier, ...] = _TIERS
    tenants: tuple[Tenant, ...] = ()
    tenant_window_bytes: Annotated[int, Limits(0, 1 << 60, unit="bytes")] = 32 * _MIB

    def __post_init__(self) -> None:
        check_limits(self)
        if self.tier_src == self.tier_dst:
            raise DataError(
                f"tier_src and tier_dst are both {self.tier_src}", expected="two different tiers"
            )
        _need_once("tiers", [one.tier for one in self.tiers])
        _need_once("tenants", [one.name for one in self.tenants])
        known = [one.tier for one in self.tiers]
        for name in ("tier_src", "tier_dst"):
            if getattr(self, name) not in known:
                raise DataError(
                    f"{name} is {getattr(self, name)}, and tiers has {known}",
                    expected="a tier whose rate and room are told",
                    fix="add it to tiers",
                )

    def open(self, path: Path) -> Opened:
        """Open a trace and check it.

        Raises:
            TraceUnreadable: There is no such file, or it is neither parquet nor Arrow.
            TraceMismatch: A column is missing, or of another kind.
            TraceRowInvalid: A row cannot be.
        """
        trace = open_trace(path)
        return Opened(trace.rows, trace.last_ns)

    def settled(self, log: Opened) -> CacheReduction:
        """Return the reduction with `now_ns` told."""
        return self if self.now_ns is not None else replace(self, now_ns=log.last_ns)

    def plan(self, rows: pl.LazyFrame) -> Plan:
        """Return the plan; `now_ns` has to be told, by `settled`."""
        now = self.now_ns or 0
        past = rows.filter(pl.col("ts_ns") <= now)
        names = {name: numbered(past, name) for name in ("node", "tenant", "model")}
        tenants = self._tenants(names["tenant"])
        events = past.select("event", "ts_ns", "node", "tenant", "model", "slo_ns", "block_hashes")
        events = events.join(names["node"], on="node").join(names["model"], on="model")
        events = events.join(tenants, on="tenant")
        blocks = blocks_of(events, "tenant_weight")
        pages = pages_of(blocks)
        tables = {
            "requests": self._requests(events, blocks, pages, now),
            "heat": self._heat(blocks, pages, now),
            "tier_caps": self._tier_caps(),
            "tenant_caps": self._tenant_caps(tenants),
            "layer_latency": self._layers().with_columns(lat_ms=_whole(self.layer_ms)),
        }
        return Plan(tables, names)

    # Stages

    def _tenants(self, named: pl.LazyFrame) -> pl.LazyFrame:
        """Return the trace's tenants with their quotas and weights."""
        agreed = pl.LazyFrame(
            {
                "tenant": [one.name for one in self.tenants],
                "window_bytes": [one.window_bytes for one in self.tenants],
                "tenant_weight": [one.weight for one in self.tenants],
            },
            schema={"tenant": pl.String, "window_bytes": pl.Int64, "tenant_weight": pl.Int64},
        )
        return named.join(agreed, on="tenant", how="left").with_columns(
            pl.col("window_bytes").fill_null(self.tenant_window_bytes),
            pl.col("tenant_weight").fill_null(1),
        )

    def _requests(
        self, events: pl.LazyFrame, blocks: pl.LazyFrame, pages: pl.LazyFrame, now: int
    ) -> pl.LazyFrame:
        begin = now - self.window_ms * _MS
        placed = blocks.filter(pl.col("ts_ns") > begin).join(pages, on=["model_id", "hash"])
        placed = placed.sort("event", "position")
        if self.fetch == "seen":
            old = (pl.col("first") < pl.col("event") * MOST_BLOCKS).cast(pl.Int64)
            placed = placed.filter(old.cum_min().over("event") == 1)
        page, event = pl.col("page"), pl.col("event")
        new_run = (page != page.shift(1) + 1) | (event != event.shift(1))
        prefix = page.filter(pl.col("position") < self.prefix_blocks).last()
        runs = (
            placed.with_columns(run=new_run.fill_null(value=True).cum_sum())
            .with_columns(prefix_id=prefix.over("event"))
            .group_by("event", "run", "prefix_id")
            .agg(page_start=page.min(), page_end=page.max())
        )
        size = (pl.col("page_end") - pl.col("page_start") + 1) * self.page_bytes
        rate = self._rate()
        due = pl.when(pl.col("slo_ns") > 0).then(pl.col("slo_ns")).otherwise(self.slo_ms * _MS)
        found = (
            runs.join(events.select(pl.all().exclude("block_hashes")), on="event")
            .join(self._layers(), how="cross")
            .with_columns(
                model=pl.col("model_id"),
                model_version=_whole(0),
                tier_src=_whole(self.tier_src),
                tier_dst=_whole(self.tier_dst),
                deadline_ms=pl.max_horizontal(_whole(1), (pl.col("ts_ns") + due) // _MS),
                page_bytes=_whole(self.page_bytes),
                est_fill_ms=pl.max_horizontal(_whole(1), (size * 1000 + rate - 1) // rate),
                node=pl.col("node_id"),
                tenant=pl.col("tenant_id"),
            )
            .sort("event", "layer", "run")
            .rename({"event": "req_id"})
        )
        return found.select(REQUESTS)

    def _heat(self, blocks: pl.LazyFrame, pages: pl.LazyFrame, now: int) -> pl.LazyFrame:
        used = blocks.filter(pl.col("ts_ns") > now - self.horizon_ms * _MS)
        age = (now - pl.col("ts_ns")) // _MS
        halvings = (age // self.half_life_ms).clip(0, 17)
        within = (age % self.half_life_ms) * (_ONE // 2) // self.half_life_ms
        weight = (_ONE - within) // _whole(2).pow(halvings)
        hits = (pl.col("weight").sum() + _ONE // 2) // _ONE
        warm = (
            used.with_columns(weight=weight.cast(pl.Int64))
            .join(pages, on=["model_id", "hash"])
            .group_by("page")
            .agg(decay_hits=hits, tenant_weight=pl.col("tenant_weight").max())
            .filter(pl.col("decay_hits") > 0)
        )
        rows = warm.join(self._layers(), how="cross").sort("layer", "page")
        return rows.select(
            "layer",
            pl.col("page").alias("page_id"),
            "decay_hits",
            "tenant_weight",
            _whole(self.page_bytes).alias("size_bytes"),
        )

    def _tier_caps(self) -> pl.LazyFrame:
        tiers = sorted(self.tiers, key=lambda one: one.tier)
        columns = {
            "tier": [one.tier for one in tiers],
            "bandwidth_caps": [
                min(_NO_LIMIT, one.bytes_per_s * self.window_ms // 1000) for one in tiers
            ],
            "free_bytes": [one.free_bytes for one in tiers],
        }
        return pl.LazyFrame(columns, schema=dict.fromkeys(columns, pl.Int64))

    def _tenant_caps(self, tenants: pl.LazyFrame) -> pl.LazyFrame:
        rows = tenants.join(self._tier_caps().select("tier"), how="cross")
        return rows.sort("tenant_id", "tier").select(
            pl.col("tenant_id").alias("tenant"),
            "tier",
            pl.col("window_bytes").alias("bandwidth_caps"),
        )

    def _layers(self) -> pl.LazyFrame:
        return pl.LazyFrame({"layer": range(self.layers)}, schema={"layer": pl.Int64})

    def _rate(self) -> int:
        ends = (self.tier_src, self.tier_dst)
        return min(one.bytes_per_s for one in self.tiers if one.tier in ends)


#: Columns of `requests`, in order.
REQUESTS = (
    "req_id", "node", "model", "model_id", "model_version", "prefix_id", "layer", "page_start",
    "page_end", "tier_src", "tier_dst", "deadline_ms", "page_bytes", "tenant", "est_fill_ms",
)  # fmt: skip


def _whole(number: int) -> pl.Expr:
    return pl.lit(number, dtype=pl.Int64)


def _need_once(what: str, keys: Sequence[int | str]) -> None:
    twice = [key for key in keys if keys.count(key) > 1]
    if twice:
        raise DataError(f"{what} has {twice[0]!r} twice", expected="each of them once")
