"""What carrying plans out costs: memory, files, digests, small pages, and the swap of a gigabyte.

The executor of the CPU stands beside the system calls that anybody would make for the same bytes.
Goals are T5, T6, T7 and T11. Files are in the page cache. What waits for a disk, or uses both
cores, is measured on the clock on the wall, and says so.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from blake3 import blake3
from measure import Effort, Row, Times, interleave, ratio, shown, shown_ratio

from bb_executor_cpu._executor import CpuConfig, CpuExecutor
from bb_ir.plan import (
    CachePlan,
    KvPageRef,
    TransferKind,
    TransferOp,
    WeightManifest,
)
from bb_planner_swap._swap import Settings, Swap
from bb_plans.hashing import digest_of
from bb_plans.manifests import manifest_of_folder
from bb_plans.places import Places
from bb_roles import SwapRequest

Calls = dict[str, Callable[[], object]]

_MIB = 1 << 20
_PAGE = 4096
_FILE = "model.bin"
#: The model that is swapped: so many files, of which so many have a few other values.
_FILES, _CHANGED = 128, 13
#: Why goals are missed, by what is measured.
_NOTES = {
    "memory 1": "An op is checked, begun, ended and reported, which takes some ten us.",
    "read 1": "An op is checked, begun, ended and reported, which takes some ten us.",
    "read 16": "What is left is checking the plan, and handing moves over to a thread.",
    "durable in ops of 1 MiB": "There is one sync for each 8 MiB.",
}


@dataclass(frozen=True)
class _Sizes:
    """How many bytes each part moves."""

    memory: int
    files: int
    durable: int
    pages: int
    model_file: int


def measure(effort: Effort) -> dict[str, Any]:
    """Measure each way that bytes go."""
    sizes = _Sizes(256 * _MIB, 256 * _MIB, 64 * _MIB, 64 * _MIB, 8 * _MIB)
    if effort.smoke:
        sizes = _Sizes(2 * _MIB, 2 * _MIB, 2 * _MIB, 1 << 18, 1 << 16)
    seconds: dict[str, Times] = {}
    with TemporaryDirectory(prefix="bench-moving-") as name, ExitStack() as stack:
        folder = Path(name)
        seconds |= interleave(_memory(stack, sizes.memory), effort, samples=9)
        (folder / _FILE).write_bytes(_noise(sizes.files))
        seconds |= interleave(_reads(stack, folder, sizes.files), effort, samples=9)
        seconds |= interleave(_pages(stack, folder, sizes.pages), effort, samples=7)
        checked = _verified(stack, folder, sizes.files)
        seconds |= interleave(checked, effort, clock=time.perf_counter)
        written = _durable(stack, folder, sizes.durable)
        seconds |= interleave(written, effort, clock=time.perf_counter)
        model = folder / "model"
        swap = _swap(model, sizes.model_file)
        seconds |= interleave(swap, effort, samples=7, clock=time.perf_counter)
    return {"sizes": vars(sizes), "seconds": seconds}


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the lines of the table."""
    times: dict[str, Times] = result["seconds"]
    sizes = _Sizes(**result["sizes"])
    return [
        *_speed_rows(times, sizes),
        *_verified_rows(times, sizes),
        *_swap_rows(times, sizes),
        *_page_rows(times, sizes),
    ]


@contextmanager
def _executor(places: Places, **config: Any) -> Iterator[CpuExecutor]:
    with CpuExecutor(CpuConfig(**config), places) as executor:
        yield executor


def _carry(executor: CpuExecutor, plan: Any) -> Callable[[], object]:
    return lambda: executor.submit(plan).wait().check()


def _noise(length: int) -> bytes:
    """Return bytes that differ from one MiB to the next."""
    block = np.random.default_rng(0).integers(0, 256, min(length, _MIB), np.uint8)
    parts = [block ^ np.uint8(at) for at in range(-(-length // len(block)))]
    return np.concatenate(parts)[:length].tobytes()


def _plan(kind: TransferKind, src: str, dst: str, length: int, step: int) -> CachePlan:
    """Return a plan of ops of one length, each of which is a page."""
    ops = (
        TransferOp(
            kind, src, dst, step, at, at,
            (KvPageRef("kv", at // step, page_count=1, page_bytes=step),),
        )
        for at in range(0, length, step)
    )  # fmt: skip
    return CachePlan("bench", tuple(ops), window_ms=1000, now_ns=1)


# --- T5: memory, reading, durable writing


def _memory(stack: ExitStack, length: int) -> Calls:
    """Move arenas in ops of 1 and 16 MiB; beside it, a copy by numpy, as memcpy does it."""
    source, target = np.frombuffer(_noise(length), np.uint8), np.ones(length, np.uint8)
    places = stack.enter_context(
        Places(arenas={"mem://from": bytearray(source), "mem://to": bytearray(length)})
    )
    one = stack.enter_context(_executor(places, threads=1))
    found: Calls = {"memcpy": lambda: np.copyto(target, source)}
    for step in (1, 16):
        each = min(step * _MIB, length)
        plan = _plan(TransferKind.H2H, "mem://from", "mem://to", length, each)
        found[f"memory {step}"] = _carry(one, plan)
    return found


def _reads(stack: ExitStack, folder: Path, length: int) -> Calls:
    """Read a file in ops of 1 and 16 MiB; beside it, `preadv` of 1 MiB each."""
    places = stack.enter_context(Places(files=folder, arenas={"mem://to": bytearray(length)}))
    one = stack.enter_context(_executor(places, threads=1))
    found: Calls = {"preadv": _preadv(folder, length, _MIB)}
    for step in (1, 16):
        each = min(step * _MIB, length)
        plan = _plan(TransferKind.STORAGE2H, f"file://{_FILE}", "mem://to", length, each)
        found[f"read {step}"] = _carry(one, plan)
    return found


def _preadv(folder: Path, length: int, step: int) -> Callable[[], object]:
    target = memoryview(bytearray(length))

    def read() -> None:
        fd = os.open(folder / _FILE, os.O_RDONLY)
        for at in range(0, length, step):
            os.preadv(fd, [target[at : at + step]], at)
        os.close(fd)

    return read


def _durable(stack: ExitStack, folder: Path, length: int) -> Calls:
    """Write arenas to a file, in one op and in ops of 1 MiB; beside it, `write` and `fsync`."""
    data = _noise(length)
    places = stack.enter_context(Places(files=folder, arenas={"mem://from": bytearray(data)}))
    executor = stack.enter_context(_executor(places))

    def bare() -> None:
        fd = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT)
        for at in range(0, length, 8 * _MIB):
            os.pwrite(fd, data[at : at + 8 * _MIB], at)
        os.fsync(fd)
        os.close(fd)

    found: Calls = {"write and fsync": bare}
    for name, step in (("in one op", length), ("in ops of 1 MiB", _MIB)):
        plan = _plan(TransferKind.H2STORAGE, "mem://from", f"file://ours {step}", length, step)
        found[f"durable {name}"] = _carry(executor, plan)
    return found


def _speed_rows(times: dict[str, Times], sizes: _Sizes) -> list[Row]:
    lines = [
        (
            "memory 1", "memcpy", sizes.memory,
            "memory to memory in ops of 1 MiB, one thread", 0.7, "memcpy",
        ),
        (
            "memory 16", "memcpy", sizes.memory,
            "memory to memory in ops of 16 MiB, one thread", 0.7, "memcpy",
        ),
        (
            "read 1", "preadv", sizes.files,
            "a cached file to memory in ops of 1 MiB, one thread", 0.9, "`preadv`",
        ),
        (
            "read 16", "preadv", sizes.files,
            "a cached file to memory in ops of 16 MiB, one thread", 0.9, "`preadv`",
        ),
        (
            "durable in one op", "write and fsync", sizes.durable,
            "memory to a file in one op, durable, on the clock", 0.9, "`pwrite` and `fsync`",
        ),
        (
            "durable in ops of 1 MiB", "write and fsync", sizes.durable,
            "memory to a file in ops of 1 MiB, durable, on the clock", 0.9, "`pwrite` and `fsync`",
        ),
    ]  # fmt: skip
    found: list[Row] = []
    for name, bare, length, what, least, against in lines:
        ours, theirs = times[name], times[bare]
        met = ratio(theirs, ours) >= least
        found.append(
            Row(
                "T5", f"{what}; against {against}", f"at least {least:g}x the speed",
                f"{_speed(ours, length)}; {against} {_speed(theirs, length)}",
                shown_ratio(theirs, ours), met, _NOTES.get(name, ""),
            )
        )  # fmt: skip
    return found


def _speed(times: Times, length: int) -> str:
    middle = sorted(times)[len(times) // 2]
    return f"{length / middle / 1e9:.2f} GB/s (max {length / min(times) / 1e9:.2f})"


# --- T6: digests


def _verified(stack: ExitStack, folder: Path, length: int) -> Calls:
    """Read a file with and without digests; beside it, one thread that reads and then hashes."""
    places = stack.enter_context(Places(files=folder, arenas={"mem://to": bytearray(length)}))
    executor = stack.enter_context(_executor(places))
    step = min(4 * _MIB, length)
    data = (folder / _FILE).read_bytes()
    plain = _plan(TransferKind.STORAGE2H, f"file://{_FILE}", "mem://to", length, step)
    ops = tuple(
        replace(op, digest=digest_of(data[op.src_offset : op.src_offset + op.length]))
        for op in plain.ops
    )
    read, target = _preadv(folder, length, step), memoryview(data)

    def one_thread() -> None:
        read()
        for at in range(0, length, step):
            blake3(target[at : at + step]).digest()

    unverified, verified = _carry(executor, plain), _carry(executor, replace(plain, ops=ops))
    found: Calls = {"unverified": unverified, "verified": verified, "one thread": one_thread}
    if hasattr(os, "posix_fadvise"):  # not on all systems
        found["unverified from disk"] = lambda: (_forget(folder / _FILE), unverified())
        found["verified from disk"] = lambda: (_forget(folder / _FILE), verified())
    return found


def _forget(path: Path) -> None:
    """Have the system drop a file from its cache, so that reading waits for the disk."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def _verified_rows(times: dict[str, Times], sizes: _Sizes) -> list[Row]:
    found: list[Row] = []
    for where, told in (("", "a cached file"), (" from disk", "a file on disk")):
        if f"verified{where}" not in times:
            continue
        plain, checked = times[f"unverified{where}"], times[f"verified{where}"]
        what = (
            f"{told} to memory, each 4 MiB verified with BLAKE3; against unverified, on the clock"
        )
        speeds = f"{_speed(checked, sizes.files)}; unverified {_speed(plain, sizes.files)}"
        found.append(
            Row(
                "T6", what, "at most 1.25x the time, with both cores", speeds,
                shown_ratio(checked, plain), ratio(checked, plain) <= 1.25,
                "The goal took reading what is cached to be as slow as hashing. Here it is several "
                "times as fast, so both cores hash most of the time." if not where else "",
            )
        )  # fmt: skip
    bare = times["one thread"]
    what = (
        "a cached file to memory, verified; against one thread that reads and then hashes, "
        "on the clock"
    )
    ratios = shown_ratio(times["verified"], bare)
    found.append(Row("", what, "", f"one thread {_speed(bare, sizes.files)}", ratios))
    return found


# --- T7: a gigabyte of which a tenth changed


def _swap(model: Path, length: int) -> Calls:
    """Swap a model in memory; beside it, what reads and hashes the same bytes in one thread."""
    model.mkdir()
    for number in range(_FILES):
        seed = _noise(length)[number:] + bytes(number)
        (model / f"{number:03}.bin").write_bytes(seed)
    old = manifest_of_folder(model, "bench", "1")
    changed = [model / f"{10 * number % _FILES:03}.bin" for number in range(_CHANGED)]
    for path in changed:
        path.write_bytes(b"changed!" * 8 + path.read_bytes()[64:])
    new = manifest_of_folder(model, "bench", "2")
    planner, request = Swap(Settings()), SwapRequest(new, from_=old)
    assert len(planner.plan(request).ops) == _CHANGED
    kept = Places(files=model)
    kept.allocate(planner.plan(request), limit=1 << 30)

    def stage(request: SwapRequest, places: Places) -> None:
        plan = planner.plan(request)
        places.allocate(plan, limit=1 << 30)
        with _executor(places) as executor:
            executor.submit(plan).wait().check()

    def staged(made: Callable[[], WeightManifest]) -> None:
        with Places(files=model) as places:
            stage(SwapRequest(made(), from_=old), places)

    def bare(hashed: list[Path]) -> None:
        """Hash some files, and read what has changed into new memory, verified."""
        for path in hashed:
            blake3(path.read_bytes()).digest()
        for path in changed:
            blake3(path.read_bytes()).digest()

    everything = sorted(model.iterdir())
    return {
        "swap": lambda: staged(lambda: new),
        "swap, arenas kept": lambda: stage(request, kept),
        "swap, bare": lambda: bare([]),
        "pipeline": lambda: staged(lambda: manifest_of_folder(model, "bench", "2")),
        "pipeline, bare": lambda: bare(everything),
    }


def _swap_rows(times: dict[str, Times], sizes: _Sizes) -> list[Row]:
    whole = f"{_FILES * sizes.model_file / 1e9:.2f} GB of which a tenth changed"
    against = "against one thread that reads and hashes it, on the clock"
    lines = [
        (
            "swap", "swap, bare", 0.1, "T7",
            f"plan, stage in memory and verify a swap of {whole}, manifests known; {against}",
        ),
        (
            "swap, arenas kept", "swap, bare", 0.1, "",
            f"the same where the memory was used before; {against}",
        ),
        (
            "pipeline", "pipeline, bare", 0.45, "T7",
            f"hash the new version, plan, stage and verify a swap of {whole}; {against}",
        ),
    ]  # fmt: skip
    return [
        Row(
            goal, what, f"at most {most:g} s" if goal else "", shown(times[ours], "ms", 1e3),
            shown_ratio(times[ours], times[bare]), min(times[ours]) <= most if goal else None,
        )
        for ours, bare, most, goal, what in lines
    ]  # fmt: skip


# --- T11: small pages


def _pages(stack: ExitStack, folder: Path, length: int) -> Calls:
    """Read pages of 4 KiB: in runs, as pages that the executor joins, and one by one."""
    places = stack.enter_context(Places(files=folder, arenas={"mem://to": bytearray(length)}))
    joins = stack.enter_context(_executor(places))
    single = stack.enter_context(_executor(places, coalesce=0))
    paged, runs = (
        _plan(TransferKind.STORAGE2H, f"file://{_FILE}", "mem://to", length, step)
        for step in (_PAGE, min(_MIB, length))
    )
    return {
        "runs": _carry(joins, runs),
        "joined": _carry(joins, paged),
        "page by page": _carry(single, paged),
        "preadv of pages": _preadv(folder, length, _PAGE),
    }


def _page_rows(times: dict[str, Times], sizes: _Sizes) -> list[Row]:
    single, bare = times["page by page"], times["preadv of pages"]
    count = sizes.pages // _PAGE
    lines = [
        ("runs", single, "T11", "as runs of 1 MiB, as planned; against page by page"),
        ("joined", single, "T11", "as one op for each, joined; against page by page"),
        ("runs", bare, "", "as runs of 1 MiB; against a bare `preadv` for each"),
    ]
    return [
        Row(
            goal, f"{count:,} cached pages of 4 KiB to memory {what}",
            "at least 3x the speed" if goal else "", _speed(times[name], sizes.pages),
            shown_ratio(other, times[name]), ratio(other, times[name]) >= 3 if goal else None,
            "Both plans have an op for each page, which is checked and reported." if goal else "",
        )
        for name, other, goal, what in lines
    ]  # fmt: skip
