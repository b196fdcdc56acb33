"""The component: a trace's requests for pages, in batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from bb_ir.types import tensor
from bb_roles import Environment
from bb_roles.data import DataConfig, DataError, InMemory, batch_types, portion
from bb_roles.limits import Limits, check_limits

if TYPE_CHECKING:
    from bb_datasource_trace.cache import CacheReduction
    from bb_roles import CacheRequest

__all__ = ["COLUMNS", "Trace", "TraceConfig"]

#: Columns of the inputs, in order.
COLUMNS = (
    "node", "model", "prefix_id", "layer", "page_start", "page_end", "tier_src", "tier_dst",
    "deadline_ms", "page_bytes", "tenant", "est_fill_ms",
)  # fmt: skip

Ms = Annotated[int, Limits(1, 366 * 86_400_000, unit="ms")]


@dataclass(frozen=True)
class TraceConfig(DataConfig):
    """Which trace is reduced and how, and what `bb_roles.data.DataConfig` says to do with its rows.

    Attributes:
        path: The trace, a parquet or Arrow file.
        now_ns: When the window of the planner begins; the time of the last request when it is
            left out.
        window_ms: Requests that came so long before are pending.
        layers: Number of layers of the models.
        page_bytes: Size of a page: of one block in one layer.
        slo_ms: When pages are due, where the trace says nothing.
        fetch: `seen` asks for leading blocks that were there before, `all` for all blocks.
        prefix_blocks: Requests with the same so many leading blocks have one `prefix_id`.
        tier_src: Where pages are.
        tier_dst: Where they are needed.
    """

    path: str = ""
    now_ns: Annotated[int | None, Limits(0, 1 << 62, unit="ns")] = None
    window_ms: Ms = 20
    layers: Annotated[int, Limits(1, 4096)] = 8
    page_bytes: Annotated[int, Limits(1, 1 << 30, unit="bytes")] = 256 << 10
    slo_ms: Ms = 1000
    fetch: Literal["seen", "all"] = "seen"
    prefix_blocks: Annotated[int, Limits(1, 1 << 20)] = 1
    tier_src: Annotated[int, Limits(0, 255)] = 0
    tier_dst: Annotated[int, Limits(0, 255)] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_limits(self)
        if not self.path:
            raise DataError("path is empty", expected="a trace, a parquet or Arrow file")

    def reduction(self) -> CacheReduction:
        """Return the reduction that makes the rows."""
        from bb_datasource_trace.cache import CacheReduction

        common = {one.name for one in fields(CacheReduction)} & {one.name for one in fields(self)}
        return CacheReduction(**{name: getattr(self, name) for name in common})


class Trace(InMemory):
    """Requests for pages: inputs (n, 12) int64, columns as in `COLUMNS`; targets (n,) int64.

    The target is the number of the request in the trace. Rows of one request come one after the
    other unless they are shuffled.
    """

    Config = TraceConfig

    def __init__(self, config: TraceConfig, env: Environment) -> None:
        from bb_datasource_trace.tables import tables

        found = tables(config.path, config.reduction())
        rows = found["requests"]
        if not len(rows["req_id"]):
            now_ns = found.record.parameters["now_ns"]
            raise DataError(
                f"the trace {config.path!r} asks for no page in the window of "
                f"{config.window_ms} ms up to {now_ns} ns",
                expected="at least one request for a page",
                fix="choose another now_ns, a longer window_ms, or fetch 'all'",
            )
        x = np.stack([rows[name] for name in COLUMNS], axis=1)
        super().__init__(config, env, *portion(x, rows["req_id"], config))

    @classmethod
    def cache_request(
        cls, path: Path, parameters: Mapping[str, Any], *, keep: Path | None = None
    ) -> CacheRequest:
        """Return what a planner of caches is asked, for a trace; what `bb plan cache` calls.

        Args:
            path: A trace (parquet or Arrow), Mooncake's JSONL, or a folder of stored tables.
            parameters: Fields of `cache.CacheReduction`, and for JSONL `model`, the model's digest.
            keep: Folder for the tables and the record of how they were made; for JSONL also for
                the trace.

        Raises:
            ConfigError: A parameter is unknown, of the wrong type, or out of its limits.
            DataError: The trace or the tables cannot be read, those of `keep` not be written, or
                parameters are given for tables that are stored.
        """
        from bb_datasource_trace.importers import import_mooncake
        from bb_datasource_trace.tables import read_tables, tables, write_tables
        from bb_datasource_trace.traces import reading

        fields = dict(parameters)
        if path.is_dir():
            if fields:
                raise DataError(
                    f"{', '.join(fields)} is told, and {str(path)!r} holds tables",
                    expected="no parameters: what is stored was reduced already",
                    fix="reduce the trace again",
                )
            stored = read_tables(path)
            if keep is not None:
                write_tables(stored, keep)
            return stored.request()
        with TemporaryDirectory() as temporary:
            if path.suffix == ".jsonl":
                home = Path(temporary) if keep is None else keep
                with reading(home):
                    home.mkdir(parents=True, exist_ok=True)
                model = str(fields.pop("model", ""))
                import_mooncake(path, home / "trace.parquet", model=model)
                path = home / "trace.parquet"
            found = tables(path, **fields)
            if keep is not None:
                write_tables(found, keep)
            return found.request()

    @classmethod
    def draw_trace(cls, path: Path, **fields: Any) -> int:
        """Write a trace of conversations drawn by chance; return how many requests it has.

        Args:
            path: The trace, parquet or Arrow.
            **fields: Fields of `generators.Sessions`.

        Raises:
            ConfigError: A field is unknown or out of its limits.
        """
        from bb_datasource_trace.generators import sessions
        from bb_datasource_trace.traces import write_trace

        drawn = sessions(**fields)
        write_trace(drawn, path)
        return len(drawn)

    @classmethod
    def value_types(cls, config: TraceConfig) -> Mapping[str, str]:  # noqa: ARG003
        """Return the types of batches."""
        return batch_types(tensor("int64", (len(COLUMNS),)), tensor("int64", ()))
