"""Rules of plans that swap weights."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from bb_ir.plan import _clear
from bb_ir.plan._fields import RANGES
from bb_ir.plan._problems import Problem, Surroundings, late, problem_of
from bb_ir.plan.differences import chunk_place
from bb_ir.plan.digests import chunk_digest, digest_text
from bb_ir.plan.errors import PlanFormatError
from bb_ir.plan.messages import Digest, FileChunk, SwapPlan, TransferOp, WeightManifest
from bb_ir.plan.places import unsafe

__all__ = ["swap_problems"]

_FURTHEST: Final = RANGES["uint64"][1]
_EMPTY: Final = WeightManifest()


def swap_problems(plan: SwapPlan, around: Surroundings) -> Iterator[Problem]:
    """Yield what is wrong with a plan that swaps weights, besides its ops in themselves."""
    if plan.to is None:
        yield Problem("account", "to", "is absent: it is not said what there shall be")
    old, new = plan.from_ or _EMPTY, plan.to or _EMPTY
    table = around.table
    files = [table.under(name).under("files") for name in ("from_", "to")] if table else []
    if not files or not _clear.manifest(files[0]):
        yield from _manifest("from_", old, needs_digest=False)
    if not files or not _clear.manifest(files[1]):
        yield from _manifest("to", new, needs_digest=True)
    if not table or not _clear.accounted(table):
        yield from _account(plan, old, new)
    if not table or not _clear.brought(table):
        yield from _brought(plan)
    doubted = _clear.sources(table.under("ops"), files) if table else range(len(plan.ops))
    yield from _sources(plan, (old, new), doubted)
    yield from _sums(plan)
    yield from _window(plan)
    start = plan.window.t_start_ns if plan.window else 0
    yield from late(plan.ops, start, around.lane_rate)


# --- manifests


def _manifest(at: str, manifest: WeightManifest, *, needs_digest: bool) -> Iterator[Problem]:
    runs: dict[str, list[tuple[int, int, int]]] = {}
    for index, chunk in enumerate(manifest.files):
        place = f"{at}.files[{index}]"
        yield from _chunk(place, chunk, needs_digest=needs_digest)
        run = (chunk.offset, chunk.offset + chunk.length, index)
        runs.setdefault(chunk.path, []).append(run)
    for path, listed in runs.items():
        listed.sort()
        for before, run in itertools.pairwise(listed):
            if run[0] < before[1] or run[:2] == before[:2]:
                told = f"has bytes of {path[:80]!r} that files[{before[2]}] has"
                yield Problem("chunk", f"{at}.files[{run[2]}]", told)


def _chunk(at: str, chunk: FileChunk, *, needs_digest: bool) -> Iterator[Problem]:
    why = unsafe(chunk.path)
    if why:
        yield Problem("chunk", f"{at}.path", why)
    if chunk.offset + chunk.length > _FURTHEST:
        yield Problem("chunk", f"{at}.length", f"reaches past {_FURTHEST}")
    span = chunk.tensor
    if span is not None and span.end - span.begin != chunk.length:
        told = f"has {span.end - span.begin} bytes, and the chunk {chunk.length}"
        yield Problem("chunk", f"{at}.tensor", told)
    try:
        digest = chunk_digest(chunk)
        if digest is not None:
            digest_text(digest)
    except PlanFormatError as error:
        yield Problem("digest", f"{at}.digest", error.found)
        return
    if digest is None and needs_digest:
        yield Problem("digest", f"{at}.digest", "is absent, so what arrives cannot be checked")


# --- what becomes of every chunk


def _account(plan: SwapPlan, old: WeightManifest, new: WeightManifest) -> Iterator[Problem]:
    wanted, told = Counter(new.files), Counter((*plan.adds, *plan.shared))
    new_files, adds, shared = enumerate(new.files), enumerate(plan.adds), enumerate(plan.shared)
    missing, wrong = "is in neither `adds` nor `shared`", "is no chunk of `to`, or told twice"
    yield from _surplus("adds", adds, told, wanted, wrong)
    yield from _surplus("shared", shared, told, wanted, wrong)
    yield from _surplus("to.files", new_files, wanted, told, missing)
    kept = {chunk_place(chunk) for chunk in new.files}
    gone = [(i, chunk) for i, chunk in enumerate(old.files) if chunk_place(chunk) not in kept]
    lost, deleted = Counter(chunk for _, chunk in gone), Counter(plan.deletes)
    missing = "has no place in `to`, and is not in `deletes`"
    wrong = "is no chunk of `from_` that has no place in `to`, or told twice"
    yield from _surplus("deletes", enumerate(plan.deletes), deleted, lost, wrong)
    yield from _surplus("from_.files", gone, lost, deleted, missing)


def _surplus(
    at: str,
    chunks: Iterable[tuple[int, FileChunk]],
    counted: Counter[FileChunk],
    allowed: Counter[FileChunk],
    found: str,
) -> Iterator[Problem]:
    """Yield the chunks of which there are more than allowed."""
    for index, chunk in chunks:
        if counted[chunk] > allowed[chunk]:
            yield Problem("account", f"{at}[{index}]", f"({chunk.path[:80]!r}) {found}")


# --- whether ops bring what comes


def _brought(plan: SwapPlan) -> Iterator[Problem]:
    """Yield the adds that no op can bring.

    An op brings a chunk by its digest, or from its place in a file. One that does neither may bring
    a part of any, so nothing is told while such ops have as many bytes as are missing.
    """
    arriving = {(op.digest.algorithm.value, op.digest.value) for op in plan.ops if op.digest}
    left = [
        (index, chunk)
        for index, chunk in enumerate(plan.adds)
        if chunk.length and _known_as(chunk) not in arriving
    ]
    if not left:
        return
    read = _read_from(plan.ops)
    lost = [(i, one) for i, one in left if not _spans(read.get(one.path, ()), one)]
    own = {_known_as(chunk) for chunk in plan.adds}
    places = {f"file://{chunk.path}" for chunk in plan.adds}
    unclear = sum(
        op.length
        for op in plan.ops
        if (op.digest is None or (op.digest.algorithm.value, op.digest.value) not in own)
        and (op.codec or op.src not in places)
    )
    if sum(chunk.length for _, chunk in lost) <= unclear:
        return
    for index, chunk in lost:
        told = f"({chunk.path[:80]!r}) is brought by no op: none has its digest, or reads it all"
        yield Problem("account", f"adds[{index}]", told)


def _known_as(chunk: FileChunk) -> tuple[int, bytes] | None:
    digest = _digest(chunk)
    return None if digest is None else (digest.algorithm.value, digest.value)


def _read_from(ops: Iterable[TransferOp]) -> dict[str, list[tuple[int, int]]]:
    """Return the runs of bytes that ops read as they are, by file and in order."""
    runs: dict[str, list[tuple[int, int]]] = {}
    for op in ops:
        scheme, _, path = op.src.partition("://")
        if scheme == "file" and not op.codec:
            runs.setdefault(path, []).append((op.src_offset, op.src_offset + op.length))
    return {path: sorted(listed) for path, listed in runs.items()}


def _spans(runs: Iterable[tuple[int, int]], chunk: FileChunk) -> bool:
    """Tell whether runs, in order, have all bytes of a chunk."""
    reached = chunk.offset
    for begin, end in runs:
        if begin > reached:
            break
        reached = max(reached, end)
    return reached >= chunk.offset + chunk.length


# --- ops against manifests


class _Known:
    """Chunks of a manifest, to be found by file and offset, or by digest."""

    def __init__(self, manifest: WeightManifest) -> None:
        self._by_path: dict[str, tuple[list[int], list[FileChunk]]] = {}
        self._by_digest: dict[str, FileChunk] = {}
        for chunk in sorted(manifest.files, key=lambda one: (one.offset, one.length)):
            begins, chunks = self._by_path.setdefault(chunk.path, ([], []))
            begins.append(chunk.offset)
            chunks.append(chunk)
            digest = _digest(chunk)
            if digest is not None:
                text = _text(digest)
                longest = self._by_digest.get(text, chunk)
                self._by_digest[text] = max(longest, chunk, key=lambda one: one.length)

    def find(self, op: TransferOp) -> tuple[FileChunk, int] | None:
        """Return the one chunk that an op can read from, with where it begins in the source."""
        scheme, _, path = op.src.partition("://")
        if scheme == "cas":
            chunk = self._by_digest.get(path)
            return None if chunk is None else (chunk, 0)
        if path not in self._by_path:
            return None
        begins, chunks = self._by_path[path]
        chunk = chunks[max(0, bisect_right(begins, op.src_offset) - 1)]
        return chunk, chunk.offset


def _sources(
    plan: SwapPlan, manifests: tuple[WeightManifest, ...], doubted: Sequence[int]
) -> Iterator[Problem]:
    known = [_Known(manifest) for manifest in manifests if doubted]
    for index in doubted:
        op = plan.ops[index]
        if op.digest is None:
            told = "is absent, so what arrives cannot be checked"
            yield problem_of("digest", index, "digest", told)
        if op.codec or not op.src.startswith(("file://", "cas://")):
            continue  # what it reads is not in a manifest
        found = [one.find(op) for one in known]
        yield from _source(index, op, [one for one in found if one is not None])


def _source(index: int, op: TransferOp, known: list[tuple[FileChunk, int]]) -> Iterator[Problem]:
    """Hold an op against the chunks that it may read from."""
    if not known:
        yield problem_of("range", index, "src", f"{op.src[:80]!r} is in no manifest")
        return
    end = op.src_offset + op.length
    inside = [
        (chunk, begin)
        for chunk, begin in known
        if begin <= op.src_offset and end <= begin + chunk.length
    ]
    if not inside:
        told = f"bytes {op.src_offset} to {end} are in no chunk of {op.src[:80]!r}"
        yield problem_of("range", index, "src_offset", told)
        return
    whole = [
        chunk for chunk, begin in inside if (op.src_offset, op.length) == (begin, chunk.length)
    ]
    if whole and op.digest is not None and not any(_agree(op.digest, one) for one in whole):
        told = f"is another one than that of the chunk of {op.src[:80]!r}"
        yield problem_of("digest", index, "digest", told)


def _digest(chunk: FileChunk) -> Digest | None:
    try:
        return chunk_digest(chunk)
    except PlanFormatError:
        return None  # it was told already


def _text(digest: Digest) -> str:
    return f"{digest.algorithm.name.lower()}:{digest.value.hex()}"


def _agree(digest: Digest, chunk: FileChunk) -> bool:
    """Tell whether nothing speaks against a chunk having a digest."""
    known = _digest(chunk)
    return known is None or known.algorithm is not digest.algorithm or known == digest


# --- sums and times


def _sums(plan: SwapPlan) -> Iterator[Problem]:
    total = sum(op.length for op in plan.ops)
    if plan.total_bytes and total != plan.total_bytes:
        told = f"is {plan.total_bytes}, and the ops have {total} bytes"
        yield Problem("bytes", "total_bytes", told)
    if not plan.bucket_bytes:
        return
    buckets: dict[str, list[int]] = {}
    for index, op in enumerate(plan.ops):
        buckets.setdefault(op.dst, []).append(index)
    for dst, inside in buckets.items():
        size = sum(plan.ops[index].length for index in inside)
        if size > plan.bucket_bytes:
            # One op that is too large for any bucket has one of its own.
            told = f"bucket {dst[:80]!r} gets {size} bytes, more than {plan.bucket_bytes}"
            yield problem_of("bytes", inside[-1], "length", told, warning=len(inside) == 1)


def _window(plan: SwapPlan) -> Iterator[Problem]:
    window = plan.window
    if window is None:
        return
    if window.t_start_ns > window.t_deadline_ns:
        told = f"{window.t_start_ns} is after the deadline, {window.t_deadline_ns}"
        yield Problem("time", "window.t_start_ns", told)
    for index, op in enumerate(plan.ops):
        if op.deadline_ns and not window.t_start_ns <= op.deadline_ns <= window.t_deadline_ns:
            told = f"{op.deadline_ns} is outside of the window"
            yield problem_of("time", index, "deadline_ns", told)
