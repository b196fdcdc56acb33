"""Plans of caches, from traces of requests; and what tiers are when files stand for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from shutil import disk_usage
from typing import TYPE_CHECKING, Any

from bb_ir.plan import CachePlan, Plan, parse_place, sealed
from bytesandbrains._files import CannotWrite, prepare_folder
from bytesandbrains.plans._errors import BadPlanFile
from bytesandbrains.plans._making import need_kind, planner

if TYPE_CHECKING:
    from bb_roles import CacheRequest

__all__ = ["cache_plan", "tier_files", "trace_source"]


def trace_source(name: str) -> Any:
    """Return the data source of a name whose class makes requests of traces.

    Raises:
        BadPlanFile: It makes none.
        UnknownPluginError: No such data source is installed.
    """
    from bb_roles.registry import component_class, component_spec

    cls: Any = component_class(component_spec("data_source", name))
    if not hasattr(cls, "cache_request"):
        raise BadPlanFile(
            f"data source {name!r} makes no requests for planners of caches",
            expected="a class with `cache_request`, such as that of data_source.trace",
            fix="pip install bb-datasource-trace",
        )
    return cls


def cache_plan(
    trace: Path,
    *,
    parameters: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    keep: Path | None = None,
    source: str = "trace",
    name: str = "kvcache",
    progress: Callable[[str], object] = lambda _: None,
) -> Plan:
    """Plan one window of a KV cache for a trace of requests.

    The plan is a function of the trace and the parameters: no clock is read.

    Args:
        trace: The trace, as the data source reads it.
        parameters: How it is reduced to tables.
        settings: Configuration of the planner.
        keep: Folder for the tables and the record of how they were made.
        source: Name of the data source.
        name: Name of the planner.
        progress: Called with what is done next: reducing the trace, planning so many requests for
            pages, checking so many moves.

    Raises:
        DataError: The trace cannot be read.
        UnplannableRequest: No plan can be made of it.
    """
    from bb_roles.errors import UnplannableRequest

    need_kind(name, "cache")
    if not trace.exists():
        raise BadPlanFile(f"there is no {str(trace)!r}", fix="check the path")
    progress(f"1 of 3: reducing {trace} to the tables of a window")
    request = trace_source(source).cache_request(trace, dict(parameters or {}), keep=keep)
    progress(f"2 of 3: planning for {_demands(request):,} requests for pages")
    made = planner(name, _fitted(name, settings, request)).plan(request)
    if not isinstance(made, CachePlan):
        raise UnplannableRequest(
            f"planner {name!r} made a {type(made).__name__}",
            expected="a CachePlan",
            fix="`bb plugins` lists planners of caches",
        )
    progress(f"3 of 3: sealing {len(made.ops):,} moves, {len(made.rejected):,} are rejected")
    producer = f"bytesandbrains {version('bytesandbrains')}, planner {name}"
    return sealed(made, producer=producer, created_ns=request.now_ns)


def _demands(request: CacheRequest) -> int:
    tables = request.tables
    return len(request.demands) if tables is None else len(tables.requests["page_end"])


def _fitted(name: str, settings: Mapping[str, Any] | None, request: CacheRequest) -> dict[str, Any]:
    """Return settings with room for the layers of a request, where the planner asks for that.

    A planner that knows nothing of a cache leaves more room than any file has.
    """
    from bb_roles.registry import planner_class, planner_spec

    given, tables = dict(settings or {}), request.tables
    known = {field.name for field in fields(planner_class(planner_spec(name)).Config)}
    if "layer_bytes" not in known or "layer_bytes" in given or tables is None:
        return given
    rows = tables.requests
    ends = (rows["page_end"] + 1) * rows["page_bytes"] if len(rows["page_end"]) else None
    return given if ends is None else {**given, "layer_bytes": int(ends.max())}


def tier_files(plan: CachePlan, folder: Path, *, make: bool = True) -> dict[str, Path]:
    """Return the files that stand for the tiers of a plan: `<folder>/<node>/tier<n>`.

    Those that are written to are made, and made as long as the plan needs; of others the executor
    says when they are missing. Before that it is seen that the disk has room for what moves.

    Args:
        plan: The plan.
        folder: The folder.
        make: Whether files are made; without, nothing is changed.

    Raises:
        CannotWrite: A folder or file cannot be made, or the disk lacks room.
    """
    ends: dict[str, int] = {}
    for op in plan.ops:
        ends[op.dst] = max(ends.get(op.dst, 0), op.dst_offset + op.length)
        ends.setdefault(op.src, 0)
    tiers = {place: parsed for place in ends if (parsed := parse_place(place)).tier >= 0}
    found = {place: folder / parsed.path for place, parsed in tiers.items()}
    lengths = {found[place]: ends[place] for place in tiers if ends[place]}
    moved = dict.fromkeys(lengths, 0)
    for op in plan.ops:
        if op.dst in found:
            moved[found[op.dst]] += op.length
    _need_room(folder, moved)
    for file, nbytes in lengths.items() if make else ():
        prepare_folder(file.parent)
        _lengthen(file, nbytes)
    return found


def _need_room(folder: Path, moved: Mapping[Path, int]) -> None:
    """See that the disk of a folder has room for the bytes that move to its files.

    What a file has on the disk already may be what is written again, so too little is refused
    and never enough.
    """
    there = next((one for one in (folder, *folder.parents) if one.is_dir()), None)
    if there is None:
        return
    more = {file: max(0, nbytes - _room_of(file)) for file, nbytes in moved.items()}
    needed, free = sum(more.values()), disk_usage(there).free
    if needed > free:
        largest = max(more, key=more.__getitem__)
        raise CannotWrite(
            f"the tiers need {needed:,} more bytes on the disk of {str(folder)!r}, and {free:,} "
            f"are free; tier {str(largest.relative_to(folder))!r} needs most",
            expected="room for all pages that the plan moves",
            fix="make room, or name a folder on a larger disk",
        )


def _room_of(file: Path) -> int:
    """Return the bytes that a file has on the disk: holes in it have none."""
    try:
        return file.stat().st_blocks * 512
    except OSError:
        return 0


def _lengthen(file: Path, nbytes: int) -> None:
    try:
        with file.open("ab") as made:
            if made.tell() < nbytes:
                made.truncate(nbytes)
    except OSError as error:
        raise CannotWrite(
            f"{str(file)!r} cannot be written: {error.strerror or error}",
            expected="a file that stands for a tier",
            fix="remove what is there, or name another folder",
        ) from error
