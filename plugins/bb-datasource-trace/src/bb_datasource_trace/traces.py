"""Traces: tables of requests that somebody recorded, as parquet or Arrow files.

This module says what a trace is, opens one and checks every row of it, and writes one. It knows
nothing of pages, tiers and planners. What is in memory is one batch of rows, whatever the size of
the file.

A row is a request to serve a model. Its blocks are the pieces of fixed length of its prompt, and
the hash of a block also covers all blocks before it: equal hashes mean equal prompts up to there.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import polars as pl

from bb_datasource_trace.errors import TraceMismatch, TraceRowInvalid, TraceUnreadable
from bb_ir.errors import did_you_mean

__all__ = ["MOST_BLOCKS", "SCHEMA", "OpenTrace", "open_trace", "write_trace"]

#: Columns of a trace. Times are nanoseconds; `model` is the digest of what is served as text, such
#: as `sha256:` and 64 digits, or empty; `session` is empty where it is unknown, and `slo_ns` is 0
#: where nothing is promised.
SCHEMA: Final[dict[str, pl.DataType]] = {
    "ts_ns": pl.Int64(),
    "node": pl.String(),
    "tenant": pl.String(),
    "model": pl.String(),
    "session": pl.String(),
    "in_tokens": pl.Int64(),
    "out_tokens": pl.Int64(),
    "block_hashes": pl.List(pl.UInt64()),
    "slo_ns": pl.Int64(),
}
#: So many blocks a request may have.
MOST_BLOCKS: Final = 1 << 20
#: Two times can be added without overflow; this one is in the year 2043.
LATEST: Final = 1 << 61
_MAGIC: Final = (b"PAR1", b"ARRO")
#: A model whose digest is unknown has an empty one.
_DIGEST: Final = r"^((sha256|blake3):[0-9a-f]{64})?$"


class OpenTrace(NamedTuple):
    """A trace whose every row was checked.

    Attributes:
        rows: The columns of `SCHEMA`, and `event` (int64), the number of the row from 0.
        requests: Number of rows.
        last_ns: Time of the last row; 0 when there is none.
    """

    rows: pl.LazyFrame
    requests: int
    last_ns: int


def open_trace(path: str | Path) -> OpenTrace:
    """Open a parquet or Arrow file and check that it is a trace, row by row.

    Columns that are not in `SCHEMA` are left aside; whole numbers of any width will do.

    Raises:
        TraceUnreadable: There is no such file, or it is neither.
        TraceMismatch: A column is missing, or of another kind.
        TraceRowInvalid: A row holds a null or a number out of range, or the trace is not sorted.
    """
    with reading(path):
        found = scan(path)
        check_columns(path, found.collect_schema(), SCHEMA)
        return _checked(found, repr(str(path)))


def write_trace(rows: pl.DataFrame | pl.LazyFrame, path: str | Path) -> None:
    """Write a trace as a parquet file, whole or not at all.

    Args:
        rows: The columns of `SCHEMA`, sorted by `ts_ns`.
        path: The file; one that is there is replaced.

    Raises:
        TraceMismatch: A column is missing, or of another kind.
        TraceRowInvalid: A row holds a null or a number out of range, or is not sorted.
        TraceUnreadable: The file cannot be written.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.part")
    with reading(path):
        check_columns(path, rows.lazy().collect_schema(), SCHEMA)
        checked = _checked(rows.lazy(), "the rows to be written")
        try:
            checked.rows.drop("event").sink_parquet(beside, row_group_size=1 << 16)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def scan(path: str | Path) -> pl.LazyFrame:
    """Return the rows of a file, which says itself whether it is parquet or Arrow."""
    with Path(path).open("rb") as file:
        magic = file.read(4)
    if magic not in _MAGIC:
        raise _unreadable(path, "it is neither a parquet nor an Arrow file", "write it anew")
    if magic == _MAGIC[0]:
        return pl.scan_parquet(path, glob=False)
    return pl.scan_ipc(glob.escape(str(path)))


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Turn what polars and the system raise meanwhile into our errors."""
    try:
        yield
    except FileNotFoundError as error:
        fix = f"check the path; it is looked up from {Path.cwd()}"
        raise _unreadable(path, "there is no such file or folder", fix) from error
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _unreadable(path, str(error), "check the path, or write it anew") from error


def _unreadable(path: str | Path, why: str, fix: str) -> TraceUnreadable:
    return TraceUnreadable(
        f"the trace {str(path)!r} cannot be used: {why}",
        expected="a whole parquet or Arrow file",
        fix=fix,
    )


def check_columns(path: str | Path, schema: pl.Schema, wanted: Mapping[str, pl.DataType]) -> None:
    """Check that a log has columns, each of its type or of one that can be made it.

    Raises:
        TraceMismatch: It has not.
    """
    for name, kind in wanted.items():
        if name not in schema:
            raise TraceMismatch(
                f"the trace {str(path)!r} has no column {name!r}",
                expected=f"the columns {', '.join(wanted)}; it has {', '.join(schema) or 'none'}",
                fix=did_you_mean(name, set(schema) - wanted.keys()) or "add it to the trace",
            )
        if not _fits(schema[name], kind):
            raise TraceMismatch(
                f"the column {name!r} of {str(path)!r} holds {schema[name]}",
                expected=str(kind),
                fix="convert it before the file is written",
            )


def with_events(found: pl.LazyFrame, wanted: Mapping[str, pl.DataType]) -> pl.LazyFrame:
    """Return columns as their types, null where they do not fit, after the number of the row."""
    columns = [pl.col(name).cast(kind, strict=False) for name, kind in wanted.items()]
    rows = found.select(columns).with_row_index("event")
    return rows.select(pl.col("event").cast(pl.Int64), *wanted)


def check_rows(
    rows: pl.LazyFrame, tests: Iterable[tuple[pl.Expr, str]], what: str, size: pl.LazyFrame
) -> pl.DataFrame:
    """Return `size`, collected in one pass that also looks at every row and keeps none.

    Raises:
        TraceRowInvalid: One of the tests is true of a row.
    """
    why = pl.coalesce(pl.when(test).then(pl.lit(text)) for test, text in tests)
    wrong = rows.select("event", why=why).filter(pl.col("why").is_not_null()).head(1)
    first, facts = pl.collect_all([wrong, size], engine="streaming")
    if first.height:
        number, text = first.row(0)
        raise TraceRowInvalid(
            f"row {number} of {what} {text}",
            expected="a value of its type in every column, nothing negative, rows sorted by ts_ns",
            fix="drop or mend such rows; sort a trace by ts_ns",
            where=(f"row {number}, counted from 0",),
        )
    return facts


def no_nulls(told: Mapping[str, str]) -> list[tuple[pl.Expr, str]]:
    """Return the tests for values that are missing or beyond their type, by how they are called."""
    return [
        (pl.col(name).is_null(), f"has no {say} that fits its type") for name, say in told.items()
    ]


def _fits(found: pl.DataType, wanted: pl.DataType) -> bool:
    if isinstance(wanted, pl.List):
        return isinstance(found, pl.List) and _fits(_inner(found), _inner(wanted))
    if isinstance(wanted, pl.String):
        return isinstance(found, pl.String | pl.Categorical | pl.Enum)
    return found.is_integer()


def _inner(kind: pl.List) -> pl.DataType:
    inner = kind.inner
    return inner if isinstance(inner, pl.DataType) else inner()


def _checked(found: pl.LazyFrame, what: str) -> OpenTrace:
    rows = with_events(found, SCHEMA)
    size = rows.select(pl.len(), last=pl.col("ts_ns").max().fill_null(0))
    facts = check_rows(rows, _tests(), what, size)
    return OpenTrace(rows, *facts.row(0))


def _tests() -> list[tuple[pl.Expr, str]]:
    """Return what a row of a trace must not be, in words."""
    blocks, ts = pl.col("block_hashes"), pl.col("ts_ns")
    size = blocks.list.len()
    numbers = ("ts_ns", "in_tokens", "out_tokens", "slo_ns")
    return [
        *no_nulls({name: name for name in SCHEMA}),
        (~pl.col("model").str.contains(_DIGEST), "has a model that is no digest"),
        (blocks.list.drop_nulls().list.len() < size, "has a block hash that is no uint64"),
        (size > MOST_BLOCKS, f"has more than {MOST_BLOCKS} block_hashes"),
        *((pl.col(name) < 0, f"has a negative {name}") for name in numbers),
        *((pl.col(name) > LATEST, f"has a {name} beyond 2**61") for name in numbers),
        (ts < ts.shift(1), "has a ts_ns before that of the row before it"),
    ]
