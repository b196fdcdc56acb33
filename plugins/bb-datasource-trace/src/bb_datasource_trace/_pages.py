"""Which pages the blocks of a trace are."""

from __future__ import annotations

import polars as pl

from bb_datasource_trace.traces import MOST_BLOCKS

__all__ = ["blocks_of", "pages_of"]


def blocks_of(events: pl.LazyFrame, *keep: str) -> pl.LazyFrame:
    """Return one row for each block of each request: its `hash`, `position` and what is kept."""
    size = pl.col("block_hashes").list.len()
    return (
        events.filter(size > 0)
        .select(
            "event",
            "ts_ns",
            "model_id",
            *keep,
            hash="block_hashes",
            position=pl.int_ranges(size.cast(pl.Int64), dtype=pl.Int64),
        )
        .explode("hash", "position")
    )


def pages_of(blocks: pl.LazyFrame) -> pl.LazyFrame:
    """Number the different blocks of each model in the order in which they first come.

    Returns:
        Columns `model_id`, `hash`, `page`, and `first`: the place of the first one in the trace,
        `event * MOST_BLOCKS + position`.
    """
    order = pl.col("event") * MOST_BLOCKS + pl.col("position")
    first = blocks.group_by("model_id", "hash").agg(first=order.min())
    return first.sort("first").with_row_index("page").with_columns(pl.col("page").cast(pl.Int64))
