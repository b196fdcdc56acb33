"""The demo of plans: a swap of weights and a window of a KV cache, planned, carried out, proven.

Everything that is measured is measured here, once, in this process: figures are of this machine and
this run, and a plain copy of the same bytes stands beside each.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from bb_ir.errors import BytesAndBrainsError
from bb_ir.plan import CachePlan, Plan, SwapPlan, chunk_digest, to_json
from bytesandbrains._files import CannotWrite, prepare_folder, write_atomically

if TYPE_CHECKING:
    from bb_ir.plan import WeightManifest
    from bb_roles import Report
    from bytesandbrains.plans import Bundle

__all__ = ["CacheFigures", "NotProven", "PlansDemo", "SwapFigures", "prove_files"]

_LAYERS = 16
#: Share of a layer's elements that one round changes, and of layers that it leaves alone.
_CHANGED, _FROZEN = 0.03, 4
_PAGE_BYTES, _CACHE_LAYERS = 32 << 10, 2
_WINDOW_MS = 20_000
#: What is worked with, below the folder of results: removed when the demo is run again.
_WORK: Final = {
    "swap": frozenset({"old", "new", "store", "bundle", "rebuilt", "copy"}),
    "cache": frozenset({"trace.parquet", "tables", "tiers"}),
}
_INTO_STORE: Final = {"destination": "store"}


class NotProven(BytesAndBrainsError):
    """What arrived in the demo of plans is not what was sent.

    It is never met unless the disk or the program is at fault; the results so far are kept.
    """


@dataclass(frozen=True, slots=True)
class SwapFigures:
    """What the swap took. Bytes, and seconds of this run.

    Attributes:
        model_bytes: The new version.
        new_bytes: What of it the old one lacks.
        sent_bytes: What was read to bring that.
        ops: Moves.
        codecs: How many by which codec.
        plan_s: From the two manifests to the written bundle.
        apply_s: Moving, hashing, making durable and committing.
        flip_s: Going back to the old version and forward again, once each, on average.
        copy_s: Copying the new version's files, and making the copy durable.
    """

    model_bytes: int
    new_bytes: int
    sent_bytes: int
    ops: int
    codecs: dict[str, int]
    plan_s: float
    apply_s: float
    flip_s: float
    copy_s: float


@dataclass(frozen=True, slots=True)
class CacheFigures:
    """What the window of the cache took.

    Attributes:
        requests: Requests in the trace.
        asked: Demands for pages in the window.
        met: Demands that ops meet.
        rejected: Demands that are not met, by reason.
        ops: Moves.
        pages: Pages that they move.
        nbytes: Their bytes.
        plan_s: From the trace to the written plan.
        apply_s: Carrying it out.
        copy_s: Reading the same pages one by one.
    """

    requests: int
    asked: int
    met: int
    rejected: dict[str, int]
    ops: int
    pages: int
    nbytes: int
    plan_s: float
    apply_s: float
    copy_s: float


class PlansDemo:
    """The demo, step by step; results are in one folder.

    Args:
        out: The folder.
        megabytes: Size of the model in MiB.
        requests: Requests in the trace.
        seed: Decides weights and trace.
        told: Called with what is done next.

    Raises:
        CannotWrite: The folder cannot be written to, or holds what a demo did not make.
    """

    def __init__(
        self,
        out: Path,
        *,
        megabytes: int = 64,
        requests: int = 1500,
        seed: int = 0,
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        prepare_folder(out)
        for name, ours in _WORK.items():
            _need_ours(out / name, ours)
        self.out, self.megabytes, self.requests, self.seed = out, megabytes, requests, seed
        self._told = told
        self._work: list[Path] = []
        self.plots: list[str] = []

    # --- the swap

    def swap(self) -> SwapFigures:
        """Plan a swap between two versions of a model, carry it out, and compare every file.

        Raises:
            NotProven: What arrived is something else.
        """
        from bb_plans.manifests import manifest_of_folder
        from bb_plans.store import Store
        from bytesandbrains.plans import bundle_arenas, carry_out, swap_bundle, swap_in_place

        home = self._fresh("swap")
        old_files, new_files, store = home / "old", home / "new", home / "store"
        self._told(f"make two versions of a model of {self.megabytes} MiB")
        self._write_weights(old_files, new_files)
        old = manifest_of_folder(old_files, "demo", "1")
        first = swap_in_place(None, old, settings=_INTO_STORE)
        carry_out(first.plan, files=old_files, store=store)

        self._told("plan the swap")
        began = time.perf_counter()
        new = manifest_of_folder(new_files, "demo", "2")
        bundle = swap_bundle(
            home / "bundle", old, new, old_files=old_files, new_files=new_files,
            settings=_INTO_STORE, created_ns=time.time_ns(),
        )  # fmt: skip
        planned = time.perf_counter() - began
        write_atomically(self.out / "swap_plan.json", to_json(bundle.plan).encode())

        self._told("carry it out")
        began = time.perf_counter()
        done = carry_out(bundle.plan, store=store, arenas=bundle_arenas(home / "bundle"))
        applied = time.perf_counter() - began
        self._draw("swap_plan.png", bundle.plan, done.report)

        self._told("write the new version's files, and compare")
        with Store(store) as held:
            with held.reading() as version:
                held.rebuild(version, home / "rebuilt")
            prove_files(manifest_of_folder(home / "rebuilt", "demo", "2"), new)
            flip = self._flip(held, done)
        return self._swap_figures(bundle, new, planned, applied, flip, _copied(new_files, home))

    def _write_weights(self, old: Path, new: Path) -> None:
        """Write two checkpoints of 16-bit weights that differ as after a round of training."""
        from bb_ir.params import ParameterSet

        rng = np.random.default_rng(self.seed)
        side = max(8, int((self.megabytes * (1 << 20) / 2 / _LAYERS) ** 0.5))
        layers = {
            f"layer{number:02}.weight": (rng.standard_normal((side, side)) * 0.02).astype("float16")
            for number in range(_LAYERS)
        }
        old.mkdir()
        new.mkdir()
        adapter = rng.standard_normal((64, side)).astype("float16")
        first = {**layers, "adapter.old": adapter}
        (old / "model.safetensors").write_bytes(ParameterSet.from_tensors(first).image)
        for name in list(layers)[_FROZEN:]:
            moved = rng.random((side, side), np.float32) < _CHANGED
            layers[name] = np.where(moved, np.nextafter(layers[name], np.float16(1)), layers[name])
        # The adapter has another name by now, and a new one came.
        second = {**layers, "adapter.1": adapter, "adapter.2": adapter[::-1].copy()}
        (new / "model.safetensors").write_bytes(ParameterSet.from_tensors(second).image)
        (old / "config.json").write_text('{"round": 1}\n', encoding="utf-8")
        (new / "config.json").write_text('{"round": 2}\n', encoding="utf-8")

    def _flip(self, held: Any, done: Any) -> float:
        """Go back and forward again, as a durable commit each; return seconds of one."""
        began = time.perf_counter()
        held.rollback()
        held.commit(done.root, held.current.epoch + done.epoch + 1)
        return (time.perf_counter() - began) / 2

    def _swap_figures(
        self, bundle: Bundle, new: WeightManifest, planned: float, *times: float
    ) -> SwapFigures:
        assert bundle.plan.swap is not None, "the bundle holds a swap"
        return SwapFigures(
            sum(chunk.length for chunk in new.files), bundle.new_bytes, bundle.sent_bytes,
            len(bundle.plan.swap.ops), dict(bundle.codecs), planned, *times,
        )  # fmt: skip

    # --- the cache

    def cache(self) -> CacheFigures:
        """Plan a window of a KV cache for a trace, carry it out, and compare every page.

        Raises:
            NotProven: What arrived is something else.
        """
        from bytesandbrains.plans import cache_plan, carry_out, tier_files, trace_source

        home = self._fresh("cache")
        self._told(f"draw a trace of {self.requests:,} requests")
        trace_source("trace").draw_trace(
            home / "trace.parquet", requests=self.requests, seed=self.seed
        )
        self._told("reduce it, and plan a window")
        began = time.perf_counter()
        sealed = cache_plan(
            home / "trace.parquet",
            parameters={
                "window_ms": _WINDOW_MS, "layers": _CACHE_LAYERS, "page_bytes": _PAGE_BYTES,
                "slo_ms": 60_000,
            },
            settings={"min_io_bytes": 0, "max_ops_per_tier": 512},
            keep=home / "tables",
        )  # fmt: skip
        planned = time.perf_counter() - began
        plan = sealed.cache
        assert plan is not None, "a planner of caches made it"
        write_atomically(self.out / "cache_plan.json", to_json(sealed).encode())

        self._told("carry it out")
        tiers = _tiers(plan, tier_files(plan, home / "tiers"))
        _fill(plan, tiers, self.seed)
        began = time.perf_counter()
        done = carry_out(sealed, arenas=tiers)
        applied = time.perf_counter() - began
        self._draw("cache_plan.png", sealed, done.report)
        _prove(plan, tiers)
        return self._cache_figures(plan, planned, applied, _page_by_page(plan, tiers))

    def _cache_figures(
        self, plan: CachePlan, planned: float, applied: float, copied: float
    ) -> CacheFigures:
        rejected: dict[str, int] = {}
        for one in plan.rejected:
            rejected[one.reason] = rejected.get(one.reason, 0) + 1
        met = sum(op.fanout for op in plan.ops)
        return CacheFigures(
            self.requests, met + len(plan.rejected), met, dict(sorted(rejected.items())),
            len(plan.ops), sum(max(1, r.page_count) for op in plan.ops for r in op.kv_refs),
            sum(op.length for op in plan.ops), planned, applied, copied,
        )  # fmt: skip

    # --- both

    def write(self, swap: SwapFigures, cache: CacheFigures) -> dict[str, Any]:
        """Write and return all figures: `plans.json`."""
        import json

        figures = {"swap": asdict(swap), "cache": asdict(cache)}
        text = json.dumps(figures, indent=2, sort_keys=True)
        write_atomically(self.out / "plans.json", text.encode())
        return figures

    def clean_up(self) -> tuple[str, ...]:
        """Remove what a demo that was not finished worked with, and return the results it leaves.

        Those are the plans and pictures that it wrote, below the folder of results.
        """
        for folder in self._work:
            shutil.rmtree(folder, ignore_errors=True)
        names = ("swap_plan.json", "swap_plan.png", "cache_plan.json", "cache_plan.png")
        return tuple(name for name in names if (self.out / name).exists())

    def _fresh(self, name: str) -> Path:
        folder = self.out / name
        self._work.append(folder)
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        return folder

    def _draw(self, name: str, plan: Plan, report: Report) -> None:
        """Draw a plan, where matplotlib is installed."""
        from importlib.util import find_spec

        if find_spec("matplotlib") is None:
            return
        from bb_plans.pictures import draw_plan

        content: SwapPlan | CachePlan | None = plan.swap or plan.cache
        assert content is not None, "plans in envelopes are not empty"
        write_atomically(self.out / name, draw_plan(content, report))
        self.plots.append(name)


def prove_files(found: WeightManifest, wanted: WeightManifest) -> None:
    """Check that files are those of a version, by the digests of all their parts.

    Raises:
        NotProven: They are not.
    """
    told = [(one.path, one.offset, one.length, chunk_digest(one)) for one in found.files]
    if told != [(one.path, one.offset, one.length, chunk_digest(one)) for one in wanted.files]:
        raise NotProven(
            "the files that were written are not those of the new version",
            expected="the same files, byte for byte",
            fix="check the disk; if it is sound, report this as a bug",
        )


def _need_ours(folder: Path, ours: frozenset[str]) -> None:
    """Check that a folder which is to be removed is one of an earlier demo, or not there."""
    if not folder.exists():
        return
    strange = {one.name for one in folder.iterdir()} - ours if folder.is_dir() else {folder.name}
    if strange:
        raise CannotWrite(
            f"{str(folder)!r} has {min(strange)!r}, which no demo made",
            expected="a folder for the results of this demo alone",
            fix="choose another folder with --out",
        )


def _copied(files: Path, home: Path) -> float:
    """Copy a folder, make the copy durable, and return the seconds that it took."""
    began = time.perf_counter()
    shutil.copytree(files, home / "copy")
    for file in (home / "copy").iterdir():
        handle = os.open(file, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
    return time.perf_counter() - began


#: What stands for the tiers: a file for storage, memory for the host.
Tiers = dict[str, "Path | NDArray[np.uint8]"]


def _tiers(plan: CachePlan, files: dict[str, Path]) -> Tiers:
    """Return storage as files, and memory for what is written, as a cache that is there already."""
    ends: dict[str, int] = {}
    for op in plan.ops:
        ends[op.dst] = max(ends.get(op.dst, 0), op.dst_offset + op.length)
    memory = {place: np.full(nbytes, 0xFF, np.uint8) for place, nbytes in ends.items()}
    return {**files, **memory}


def _fill(plan: CachePlan, tiers: Tiers, seed: int) -> None:
    """Write what the plan will read: other bytes for each op."""
    for number, op in enumerate(plan.ops):
        data = np.random.default_rng([seed, number]).bytes(op.length)
        with _file(tiers, op.src).open("r+b" if _file(tiers, op.src).exists() else "w+b") as file:
            file.seek(op.src_offset)
            file.write(data)


def _prove(plan: CachePlan, tiers: Tiers) -> None:
    """Compare digests of what was read and of what arrived, op by op."""
    from bb_plans.hashing import digest_of

    for number, op in enumerate(plan.ops):
        with _file(tiers, op.src).open("rb") as file:
            sent = os.pread(file.fileno(), op.length, op.src_offset)
        arrived = _memory(tiers, op.dst)[op.dst_offset : op.dst_offset + op.length]
        if digest_of(sent) != digest_of(arrived):
            raise NotProven(
                f"ops[{number}] of the cache plan brought other bytes than it read",
                expected="the same bytes",
                fix="check the disk; if it is sound, report this as a bug",
            )


def _page_by_page(plan: CachePlan, tiers: Tiers) -> float:
    """Read the same pages one by one into memory; return the seconds that it took."""
    handles = {op.src: os.open(_file(tiers, op.src), os.O_RDONLY) for op in plan.ops}
    began = time.perf_counter()
    for op in plan.ops:
        memory = memoryview(_memory(tiers, op.dst).data)
        for at in range(0, op.length, _PAGE_BYTES):
            end = min(at + _PAGE_BYTES, op.length)
            page = memory[op.dst_offset + at : op.dst_offset + end]
            os.preadv(handles[op.src], [page], op.src_offset + at)
    took = time.perf_counter() - began
    for handle in handles.values():
        os.close(handle)
    return took


def _file(tiers: Tiers, place: str) -> Path:
    found = tiers[place]
    assert isinstance(found, Path), "plans of caches read from storage here"
    return found


def _memory(tiers: Tiers, place: str) -> NDArray[np.uint8]:
    found = tiers[place]
    assert not isinstance(found, Path), "plans of caches write to host memory here"
    return found
