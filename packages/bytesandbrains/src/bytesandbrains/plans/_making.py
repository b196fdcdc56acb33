"""Plans of swaps: made in place, or as a folder that holds all that is needed to carry them out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bb_ir.plan import Plan, SwapPlan, WeightManifest, changes, sealed
from bytesandbrains._files import prepare_folder, sync_folder
from bytesandbrains.plans._errors import BadPlanFile
from bytesandbrains.plans._files import PLAN_NAME, write_plan

if TYPE_CHECKING:
    from bb_plans.places import Places
    from bb_roles import Executor, Planner

__all__ = ["Bundle", "bundle_arenas", "executor", "planner", "swap_bundle", "swap_in_place"]

#: The file of a bundle with the bytes that its plan reads, and the place that the plan has for it.
SPANS_NAME = "spans.bin"
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
        settings: Its configuration.
        created_ns: When, in nanoseconds of Unix time.

    Raises:
        UnplannableRequest: No plan can be made of it.
    """
    from bb_roles import SwapRequest

    return _bundle(planner(name, settings).plan(SwapRequest(new, old)), name, created_ns)


def swap_bundle(
    folder: Path,
    old: WeightManifest | None,
    new: WeightManifest,
    *,
    old_files: Path | None,
    new_files: Path,
    link: float = 125e6,
    name: str = "swap",
    settings: Mapping[str, Any] | None = None,
    created_ns: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> Bundle:
    """Write a folder with a plan and the bytes that it reads, as differences where they are less.

    It holds all that a machine with the old version in its store needs.

    Args:
        folder: Where `plan.json` and `spans.bin` are written.
        old: What there is; `None` for nothing.
        new: What there shall be.
        old_files: Folder of the old version; `None` to make no differences.
        new_files: Folder of the new version.
        link: Bytes per second of the link that the folder will cross.
        name: Name of the planner.
        settings: Its configuration.
        created_ns: When, in nanoseconds of Unix time.
        progress: Called with the bytes of the new version that are done.

    Raises:
        CannotWrite: The folder cannot be written to.
        UnplannableRequest: No plan can be made of it.
    """
    from bb_plans.deltas import Rates, differences
    from bb_plans.manifests import folder_reader
    from bb_roles import ChunkSource, SwapRequest

    prepare_folder(folder)
    read_old = None if old_files is None else folder_reader(old_files)
    base = old if read_old is not None else None
    sources: list[ChunkSource] = []
    temporary = folder / f".{SPANS_NAME}"
    end = seen = 0
    with temporary.open("wb") as file:
        told = differences(
            base, _only_new(old, new), read_old or folder_reader(new_files),
            folder_reader(new_files), Rates(link),
        )  # fmt: skip
        for one in told:
            sources.append(one.source(SPANS, end))
            file.write(one.data)
            end += len(one.data)
            seen += one.chunk.length
            progress(seen)
        file.flush()
        os.fsync(file.fileno())
    request = SwapRequest(new, old, sources=tuple(sources))
    made = _bundle(planner(name, settings).plan(request), name, created_ns)
    temporary.replace(folder / SPANS_NAME)
    write_plan(folder / PLAN_NAME, made.plan)
    sync_folder(folder)
    return made


def bundle_arenas(folder: Path) -> dict[str, Any]:
    """Return the memory that a bundle's plan reads: its file, mapped. Nothing for anything else.

    Raises:
        BadPlanFile: The folder has a plan and not its bytes.
    """
    import numpy as np

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
