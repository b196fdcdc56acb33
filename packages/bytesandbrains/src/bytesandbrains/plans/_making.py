"""Plans of swaps: made in place, or as a folder that holds all that is needed to carry them out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from bb_ir.plan import (
    Digest,
    Plan,
    PlanFormatError,
    SwapPlan,
    WeightManifest,
    changes,
    digest_text,
    parse_digest,
    sealed,
)
from bytesandbrains._files import CannotWrite, prepare_folder, sync_folder, write_atomically
from bytesandbrains.plans._errors import BadPlanFile
from bytesandbrains.plans._files import PLAN_NAME, write_plan

if TYPE_CHECKING:
    from bb_plans.places import Places
    from bb_roles import Executor, Planner

__all__ = [
    "Bundle",
    "bundle_arenas",
    "bundle_digests",
    "executor",
    "need_kind",
    "planner",
    "swap_bundle",
    "swap_in_place",
]

#: The file of a bundle with the bytes that its plan reads, and the place that the plan has for it.
SPANS_NAME = "spans.bin"
#: Digests of the pieces of that file: a plan has those of what is made of them.
DIGESTS_NAME = "spans.json"
SPANS = "mem://spans"


def planner(name: str, settings: Mapping[str, Any] | None = None) -> Planner:
    """Build a planner by its name.

    Raises:
        ConfigError: A setting is wrong.
        UnknownPluginError: No such planner is installed.
    """
    from bb_roles.config import build_config
    from bb_roles.registry import planner_class, planner_spec

    cls = planner_class(planner_spec(name))
    return cls(build_config(cls.Config, dict(settings or {}), f"planner.{name}"))


def need_kind(name: str, kind: str) -> None:
    """Check that a planner makes plans of a kind: `swap` or `cache`.

    Raises:
        UnknownPluginError: No such planner is installed.
        UnplannableRequest: It makes plans of another kind.
    """
    from bb_roles.errors import UnplannableRequest
    from bb_roles.registry import planner_spec

    plans = planner_spec(name).plans
    if kind not in plans:
        raise UnplannableRequest(
            f"planner {name!r} makes no plans of a {kind}",
            expected=f"a planner of a {kind}; it makes plans of a {' and a '.join(plans)}",
            fix="`bb plugins planner` lists planners",
        )


def _swapper(name: str, settings: Mapping[str, Any] | None) -> Planner:
    """Build a planner of swaps whose plans lead into a store, where it can be told where to."""
    from bb_roles.registry import planner_class, planner_spec

    need_kind(name, "swap")
    known = {field.name for field in fields(planner_class(planner_spec(name)).Config)}
    into = {"destination": "store"} if "destination" in known else {}
    return planner(name, {**into, **(settings or {})})


def executor(name: str, places: Places, settings: Mapping[str, Any] | None = None) -> Executor:
    """Build an executor by its name.

    Raises:
        ConfigError: A setting is wrong.
        UnknownPluginError: No such executor is installed.
    """
    from bb_roles.config import build_config
    from bb_roles.registry import executor_class, executor_spec

    cls = executor_class(executor_spec(name))
    return cls(build_config(cls.Config, dict(settings or {}), f"executor.{name}"), places)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A plan and what it is to bring.

    Attributes:
        plan: The plan, sealed.
        new_bytes: Bytes of the new version that the old one lacks.
        sent_bytes: Bytes that are read to bring them.
        codecs: How many chunks are brought by which codec; `raw` for bytes as they are.
    """

    plan: Plan
    new_bytes: int
    sent_bytes: int
    codecs: Mapping[str, int]


def swap_in_place(
    old: WeightManifest | None,
    new: WeightManifest,
    *,
    name: str = "swap",
    settings: Mapping[str, Any] | None = None,
    created_ns: int = 0,
) -> Bundle:
    """Plan a swap whose bytes are read from the new version's own files.

    Args:
        old: What there is; `None` for nothing.
        new: What there shall be.
        name: Name of the planner.
        settings: Its configuration; its plans lead into a store unless this says otherwise.
        created_ns: When, in nanoseconds of Unix time.

    Raises:
        UnplannableRequest: No plan can be made of it.
    """
    from bb_roles import SwapRequest

    return _bundle(_swapper(name, settings).plan(SwapRequest(new, old)), name, created_ns)


def swap_bundle(
    folder: Path | None,
    old: WeightManifest | None,
    new: WeightManifest,
    *,
    old_files: Path | None,
    new_files: Path,
    link: float = 125e6,
    name: str = "swap",
    settings: Mapping[str, Any] | None = None,
    created_ns: int = 0,
    check: Callable[[Plan], object] = lambda _: None,
    progress: Callable[[int], None] = lambda _: None,
) -> Bundle:
    """Write a folder with a plan and the bytes that it reads, as differences where they are less.

    It holds all that a machine with the old version in its store needs.

    Args:
        folder: Where `plan.json`, `spans.bin` and the digests of its pieces, `spans.json`, are
            written; `None` to write nothing, and find out what there would be.
        old: What there is; `None` for nothing.
        new: What there shall be.
        old_files: Folder of the old version; `None` to make no differences.
        new_files: Folder of the new version.
        link: Bytes per second of the link that the folder will cross.
        name: Name of the planner.
        settings: Its configuration; its plans lead into a store unless this says otherwise.
        created_ns: When, in nanoseconds of Unix time.
        check: Called with the plan before it is written; what it raises leaves nothing written.
        progress: Called with the bytes of the new version that are done.

    Raises:
        CannotWrite: The folder cannot be written to.
        UnplannableRequest: No plan can be made of it.
    """
    from bb_plans.deltas import Rates, differences
    from bb_plans.hashing import digest_of
    from bb_plans.manifests import folder_reader
    from bb_roles import ChunkSource, SwapRequest

    swapper = _swapper(name, settings)
    read_old = None if old_files is None else folder_reader(old_files)
    base = old if read_old is not None else None
    sources: list[ChunkSource] = []
    pieces: list[tuple[int, int, str]] = []
    end = seen = 0
    with _spans(folder) as file:
        told = differences(
            base, _only_new(old, new), read_old or folder_reader(new_files),
            folder_reader(new_files), Rates(link),
        )  # fmt: skip
        for one in told:
            sources.append(one.source(SPANS, end))
            if file is not None:
                file.write(one.data)
                pieces.append((end, len(one.data), digest_text(digest_of(one.data))))
            end += len(one.data)
            seen += one.chunk.length
            progress(seen)
        request = SwapRequest(new, old, sources=tuple(sources))
        made = _bundle(swapper.plan(request), name, created_ns)
        check(made.plan)
    if folder is not None:
        write_atomically(
            folder / DIGESTS_NAME, json.dumps({"pieces": pieces}).encode(), durable=True
        )
        write_plan(folder / PLAN_NAME, made.plan)
        sync_folder(folder)
    return made


@contextmanager
def _spans(folder: Path | None) -> Generator[BinaryIO | None]:
    """Open the file of bytes of a bundle; it has its name when all of them are written."""
    if folder is None:
        yield None
        return
    prepare_folder(folder)
    temporary = folder / f".{SPANS_NAME}"
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / SPANS_NAME)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise CannotWrite(
                f"{str(folder)!r} cannot be written: {error.strerror or error}",
                fix="make room, or choose another folder",
            ) from error
        raise


def bundle_arenas(folder: Path) -> dict[str, Any]:
    """Return the memory that a bundle's plan reads: its file, mapped. Nothing for anything else.

    Args:
        folder: The bundle, or the `plan.json` in it.

    Raises:
        BadPlanFile: The folder has a plan and not its bytes.
    """
    import numpy as np

    folder = _bundle_folder(folder)
    if not folder.is_dir():
        return {}
    file = folder / SPANS_NAME
    try:
        if file.stat().st_size == 0:
            return {SPANS: np.zeros(0, np.uint8)}
        return {SPANS: np.memmap(file, np.uint8, "r")}
    except OSError as error:
        raise BadPlanFile(
            f"{str(file)!r} cannot be read: {error.strerror or error}",
            expected="the bytes that belong to the plan beside it",
            fix="copy the whole bundle",
        ) from error


def bundle_digests(folder: Path) -> dict[tuple[str, int, int], Digest]:
    """Return digests of the pieces of a bundle's bytes, by place, offset and length.

    Nothing for anything else, and for a bundle that was written without them.

    Args:
        folder: The bundle, or the `plan.json` in it.

    Raises:
        BadPlanFile: They cannot be read.
    """
    file = _bundle_folder(folder) / DIGESTS_NAME
    if not file.exists():
        return {}
    try:
        pieces = json.loads(file.read_bytes())["pieces"]
        return {(SPANS, int(at), int(size)): parse_digest(told) for at, size, told in pieces}
    except (
        AttributeError, KeyError, OSError, PlanFormatError, TypeError, ValueError,
    ) as error:  # fmt: skip
        raise BadPlanFile(
            f"{str(file)!r} cannot be read: {error}",
            expected="digests of the bytes of the bundle",
            fix="copy the whole bundle",
        ) from error


def _bundle_folder(path: Path) -> Path:
    """Return the folder of a bundle of which that or its plan is named."""
    inside = path.name == PLAN_NAME and (path.parent / SPANS_NAME).exists()
    return path.parent if inside else path


def _only_new(old: WeightManifest | None, new: WeightManifest) -> WeightManifest:
    """Return a version's manifest without what is in the old one already."""
    if old is None:
        return new
    return WeightManifest(new.model_id, new.version, changes(old, new).adds)


def _bundle(plan: Any, name: str, created_ns: int) -> Bundle:
    from bb_roles.errors import UnplannableRequest

    if not isinstance(plan, SwapPlan):
        raise UnplannableRequest(
            f"planner {name!r} made a {type(plan).__name__}",
            expected="a SwapPlan",
            fix="`bb plugins` lists planners of swaps",
        )
    producer = f"bytesandbrains {version('bytesandbrains')}, planner {name}"
    codecs: dict[str, int] = {}
    for op in plan.ops:
        codecs[op.codec or "raw"] = codecs.get(op.codec or "raw", 0) + 1
    return Bundle(
        sealed(plan, producer=producer, created_ns=created_ns),
        sum(op.length for op in plan.ops),
        sum(op.encoded_length if op.codec else op.length for op in plan.ops),
        dict(sorted(codecs.items())),
    )
