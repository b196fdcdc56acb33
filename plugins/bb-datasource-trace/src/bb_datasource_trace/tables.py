"""Runs reductions, stores what they give beside a record of how, and does them again.

A stored reduction is a folder: one parquet file for each table, and `reduction.json`, its record.
The record has the kind and the parameters of the reduction, the digest of the log, the digest of
every table, the versions of polars and numpy, and the plan as polars explains it, for people. A
replay needs nothing else than the folder and the log.

Digests are BLAKE3, of a file's bytes or of a table's names and numbers (little-endian), so
that another version of polars, which writes other parquet bytes, finds the same ones.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import blake3
import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from bb_datasource_trace._reduction import Plan, Reduction
from bb_datasource_trace.accesses import Accesses
from bb_datasource_trace.cache import CacheReduction
from bb_datasource_trace.errors import ReductionDamaged, TablesDiffer, TraceUnreadable
from bb_datasource_trace.generators import Synthetic
from bb_datasource_trace.totals import Totals
from bb_datasource_trace.traces import reading
from bb_ir.errors import BytesAndBrainsError
from bb_roles.config import build_config
from bb_roles.data import DataError
from bb_roles.planner import CacheRequest, CacheTables

__all__ = [
    "Columns",
    "Record",
    "Tables",
    "read_tables",
    "replay",
    "synthetic",
    "tables",
    "write_tables",
]

Columns = Mapping[str, NDArray[Any]]

RECORD: Final = "reduction.json"
_SCHEMA: Final = "bb.trace.reduction/1"
_KINDS: Final[dict[str, type[Reduction]]] = {
    one.kind: one for one in (Accesses, CacheReduction, Totals)
}
#: Where the log lies, in what polars prints.
_PLACE: Final = re.compile(r"(?<=SCAN )\[.*\]")


@dataclass(frozen=True)
class Record:
    """How tables were made; enough to make them again.

    Attributes:
        kind: Kind of the reduction.
        parameters: Its parameters, as plain data.
        source: The log; in a stored record from the folder in which that is. Empty when tables were
            drawn.
        source_digest: Of its bytes.
        digests: Of the tables and of the names, by name.
        stages: Of what the plan is made.
        polars: Version of polars that ran it.
        plan: As polars explained it.
        schema: Version of this form.
    """

    kind: str
    parameters: dict[str, Any]
    source: str
    source_digest: str
    digests: dict[str, str]
    stages: tuple[str, ...]
    polars: str
    plan: str
    schema: str = _SCHEMA


@dataclass(frozen=True)
class Tables:
    """What a reduction gives: `tables["requests"]["page_start"]` is a read-only array.

    Attributes:
        tables: Columns of each table, by name.
        names: Texts that numbers in the tables stand for: `names["node"][2]` is node 2.
        record: How they were made.
    """

    tables: Mapping[str, Columns]
    names: Mapping[str, tuple[str, ...]]
    record: Record = field(repr=False)

    def __getitem__(self, name: str) -> Columns:
        """Return the columns of a table."""
        return self.tables[name]

    def request(self) -> CacheRequest:
        """Return the request of a planner of caches for these tables.

        Raises:
            DataError: They are not the tables of such a planner.
        """
        parameters = self.record.parameters
        if self.record.kind == CacheReduction.kind:
            now_ns, window_ms = parameters["now_ns"], parameters["window_ms"]
        elif self.record.kind == Synthetic.kind:
            now_ns, window_ms = parameters["now_ms"] * 1_000_000, CacheReduction.window_ms
        else:
            raise DataError(
                f"the tables are {', '.join(self.tables)}, of the kind {self.record.kind!r}",
                expected="tables of CacheReduction or Synthetic",
            )
        columns: dict[str, Any] = {name: dict(table) for name, table in self.tables.items()}
        names = dict(self.names)
        return CacheRequest(now_ns, window_ms, tables=CacheTables(**columns, names=names))


def tables(trace: str | Path, reduction: Reduction | None = None, **parameters: Any) -> Tables:
    """Reduce a log to tables.

    Args:
        trace: A parquet or Arrow file.
        reduction: How; or parameters of `CacheReduction`, by name.
        **parameters: See `CacheReduction`.

    Raises:
        TraceUnreadable: There is no such file, it is neither, or it changes while it is read.
        TraceMismatch: A column is missing, or of another kind.
        TraceRowInvalid: A row cannot be.
        ConfigError: A parameter is unknown, of the wrong type, or out of its limits.
    """
    return _reduced(Path(trace), _chosen(CacheReduction, reduction, parameters))


def synthetic(workload: Synthetic | None = None, **parameters: Any) -> Tables:
    """Draw tables without a trace.

    Args:
        workload: How; or parameters of `Synthetic`, by name.
        **parameters: See `Synthetic`.

    Raises:
        ConfigError: A parameter is unknown, of the wrong type, or out of its limits.
    """
    made = _chosen(Synthetic, workload, parameters)
    found = {name: _frozen(columns) for name, columns in made.draw().items()}
    record = Record(
        kind=made.kind,
        parameters=asdict(made),
        source="",
        source_digest="",
        digests=_digests(found, {}),
        stages=made.stages,
        polars=pl.__version__,
        plan="",
    )
    return Tables(found, {}, record)


def write_tables(found: Tables, folder: str | Path) -> None:
    """Store tables and their record in a folder, which is made if it is not there.

    The record comes last: a folder that has one is whole.

    Raises:
        ReductionDamaged: The folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RECORD).unlink(missing_ok=True)
        for name, columns in found.tables.items():
            frame = pl.DataFrame(dict(columns))
            _put(folder / f"{name}.parquet", frame.write_parquet)
        record = asdict(found.record)
        if found.record.source:
            record["source"] = _from_folder(found.record.source, folder)
        content = json.dumps({**record, "names": found.names}, indent=2, ensure_ascii=False)
        _put(folder / RECORD, lambda path: path.write_text(f"{content}\n", encoding="utf-8"))
    except OSError as error:
        raise _damaged(folder, f"it cannot be written: {error}") from error


def read_tables(folder: str | Path) -> Tables:
    """Read what `write_tables` stored, and check that it is that.

    Raises:
        ReductionDamaged: The record or a table is missing, or is not what was stored.
    """
    folder = Path(folder)
    record, names = _read_record(folder)
    found: dict[str, Columns] = {}
    for name in record.digests:
        if name == "names":
            continue
        try:
            frame = pl.read_parquet(folder / f"{name}.parquet", glob=False)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise _damaged(folder, f"its table {name!r} cannot be read: {error}") from error
        found[name] = _columns(frame)
    wrong = _differing(record.digests, _digests(found, names))
    if wrong:
        raise _damaged(folder, f"{' and '.join(wrong)} is not what its record says")
    source = record.source and str(folder / record.source)
    return Tables(found, names, replace(record, source=source))


def replay(folder: str | Path, *, trace: str | Path | None = None) -> Tables:
    """Do a stored reduction again, and check that the same tables come out.

    Args:
        folder: Where `write_tables` stored it.
        trace: The log, if it is elsewhere by now.

    Raises:
        ReductionDamaged: What was stored is not whole.
        TraceUnreadable: The log is not there, or is another one.
        TablesDiffer: Other tables came out.
    """
    folder = Path(folder)
    record = read_tables(folder).record
    again = _again(folder, record, trace)
    wrong = _differing(record.digests, again.record.digests)
    if wrong:
        versions = "" if record.polars == pl.__version__ else f", then with {record.polars}"
        raise TablesDiffer(
            f"{' and '.join(wrong)} came out other than the first time, with polars "
            f"{pl.__version__}{versions}",
            expected="the same tables from the same trace and parameters",
            fix=f"use polars {record.polars}"
            if versions
            else "reduce the trace again; if nobody changed the record, report this as a bug",
            where=(str(folder),),
        )
    return again


# How it is done


def _chosen(cls: type[Any], given: Any, parameters: dict[str, Any]) -> Any:
    if given is not None and parameters:
        raise DataError(
            f"both {given!r:.80} and {', '.join(parameters)} are given",
            expected="a reduction, or parameters by name",
            fix="put the parameters into the reduction",
        )
    if given is None:
        return build_config(cls, parameters, cls.kind)
    if isinstance(given, type) or not isinstance(given, Reduction | Synthetic):
        raise DataError(
            f"{given!r:.80} is no reduction",
            expected="an instance, such as CacheReduction(window_ms=1000)",
        )
    return given


def _again(folder: Path, record: Record, trace: str | Path | None) -> Tables:
    if record.kind == Synthetic.kind:
        return synthetic(_built(folder, Synthetic, record))
    cls = _KINDS.get(record.kind)
    if cls is None:
        known = [*_KINDS, Synthetic.kind]
        raise _damaged(folder, f"its reduction is of the kind {record.kind!r}, not one of {known}")
    path = Path(trace) if trace is not None else Path(record.source)
    with reading(path):
        digest = _file_digest(path)
    if digest != record.source_digest:
        raise TraceUnreadable(
            f"the trace {str(path)!r} is {digest}",
            expected=f"{record.source_digest}, the one that was reduced",
            fix="give the trace that was reduced, or reduce this one",
        )
    return _reduced(path, _built(folder, cls, record))


def _reduced(path: Path, reduction: Reduction) -> Tables:
    with reading(path):
        before = _stamp(path)
        digest = _file_digest(path)
        log = reduction.open(path)
        settled = reduction.settled(log)
        plan = settled.plan(log.rows)
        frames = [*plan.tables.values(), *plan.names.values()]
        collected = pl.collect_all(frames, engine="streaming")
        if _stamp(path) != before:
            raise TraceUnreadable(
                f"the trace {str(path)!r} changed while it was read",
                expected="a file that nobody writes any more",
            )
    results = dict(zip([*plan.tables, *plan.names], collected, strict=True))
    found = {name: _columns(results[name]) for name in plan.tables}
    names = {name: tuple(results[name][name].to_list()) for name in plan.names}
    record = Record(
        kind=settled.kind,
        parameters=asdict(settled),  # type: ignore[call-overload]  # all reductions are dataclasses
        source=str(path),
        source_digest=digest,
        digests=_digests(found, names),
        stages=settled.stages,
        polars=pl.__version__,
        plan=_explained(plan),
    )
    return Tables(found, names, record)


def _explained(plan: Plan) -> str:
    """Return the plan as polars prints it, without paths.

    It is the plan as it was built: the optimizer chooses the order of filters by chance.
    """
    frames = {**plan.tables, **plan.names}
    parts = (f"{name}:\n{frame.explain(optimized=False)}" for name, frame in frames.items())
    return _PLACE.sub("[log]", "\n".join(parts))


def _columns(frame: pl.DataFrame) -> Columns:
    return _frozen({one.name: one.to_numpy() for one in frame.get_columns()})


def _frozen(columns: dict[str, NDArray[Any]]) -> Columns:
    for one in columns.values():
        one.setflags(write=False)
    return columns


def _digests(found: Mapping[str, Columns], names: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    digests = {name: _table_digest(columns) for name, columns in found.items()}
    told = json.dumps(names, sort_keys=True).encode()
    return {**digests, "names": f"blake3:{blake3.blake3(told).hexdigest()}"}


def _table_digest(columns: Columns) -> str:
    digest = blake3.blake3()
    for name, values in columns.items():
        plain = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
        digest.update(f"{name} {values.dtype.name} {len(values)}\n".encode())
        digest.update(plain.tobytes())
    return f"blake3:{digest.hexdigest()}"


def _file_digest(path: Path) -> str:
    with path.open("rb"):  # what cannot be opened is an OSError that names it
        return f"blake3:{blake3.blake3().update_mmap(path).hexdigest()}"


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def _differing(first: Mapping[str, str], second: Mapping[str, str]) -> list[str]:
    return [name for name in {**first, **second} if first.get(name) != second.get(name)]


def _from_folder(source: str, folder: Path) -> str:
    """Return how the log is reached from the folder, so that both can be moved together."""
    # Of a folder that is a link, `..` is beside what it leads to.
    path = Path(source)
    try:
        return os.path.relpath(path.parent.resolve() / path.name, folder.resolve())
    except ValueError:  # on Windows, another drive
        return str(Path(source).resolve())


def _put(path: Path, write: Any) -> None:
    """Write a file whole or not at all."""
    beside = path.with_name(f".{path.name}.part")
    try:
        write(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _read_record(folder: Path) -> tuple[Record, dict[str, tuple[str, ...]]]:
    try:
        given = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        names = msgspec.convert(given.pop("names"), dict[str, tuple[str, ...]])
        record = msgspec.convert(given, Record)
    except FileNotFoundError as error:
        raise _damaged(folder, f"it has no {RECORD}") from error
    except (
        OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError,
        msgspec.MsgspecError,
    ) as error:  # fmt: skip
        raise _damaged(folder, f"its {RECORD} cannot be read: {error}") from error
    if record.schema != _SCHEMA:
        raise _damaged(folder, f"its {RECORD} is of the form {record.schema!r}, not {_SCHEMA!r}")
    if any(Path(name).name != name for name in record.digests):
        raise _damaged(folder, f"its {RECORD} names tables outside of it")
    return record, names


def _built(folder: Path, cls: type[Any], record: Record) -> Any:
    try:
        return build_config(cls, record.parameters, record.kind)
    except BytesAndBrainsError as error:
        raise _damaged(folder, f"its parameters cannot be used: {error.found}") from error


def _damaged(folder: Path, why: str) -> ReductionDamaged:
    return ReductionDamaged(
        f"the reduction in {str(folder)!r} cannot be used: {why}",
        expected="a folder that write_tables wrote",
        fix="reduce the trace again",
    )
