"""What the places of plans stand for on one machine, and whether a plan can be carried out there.

A plan names places by texts; `Places` says what they are: files below one root, blobs of a store,
named arenas in memory (those of `device://` stand for a device, so that every plan can be carried
out without one), and what a function fetches from peers. Nothing else can be reached.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from typing import Final

from bb_ir.errors import BytesAndBrainsError
from bb_ir.plan import (
    CachePlan,
    Digest,
    FileChunk,
    InvalidPlan,
    Plan,
    Problem,
    Quota,
    SwapPlan,
    TransferOp,
    check,
    digest_text,
    parse_digest,
)
from bb_plans._contents import content_of, media_of, old_chunks
from bb_plans._opening import ARENAS, LARGEST_FILE, OpenPlaces
from bb_plans._order import order_of
from bb_plans.errors import PlaceFailed, UnknownPlace

__all__ = ["LARGEST_FILE", "Places", "content_of", "media_of", "old_chunks"]

_LONGEST: Final = 1 << 64


class Places(OpenPlaces):
    """What places stand for here.

    Args:
        files: The folder that paths of `file://` are below; `None` for no files.
        store: Where blobs of `cas://` are; `None` for none.
        arenas: Memory by its place, such as `{"mem://bucket/0": bytearray(4096)}`, for the schemes
            `mem`, `device` and `tier`. A tier may be a file instead: a `Path`.
        fetch: Asks peers for what is at `net://`; called from several threads at once.
        largest_file: How long a file may become, in bytes.

    Raises:
        UnknownPlace: An arena is none, or the folder of files is none.
    """

    def allocate(self, plan: CachePlan | SwapPlan | Plan, *, limit: int) -> tuple[str, ...]:
        """Make the arenas that a plan writes and that are not there; return their places.

        Args:
            plan: The plan.
            limit: Most bytes that they may have together; nothing is made when they have more.

        Raises:
            UnknownPlace: They would be larger.
        """
        wanted: dict[str, int] = {}
        for op in content_of(plan).ops:
            known = op.dst in self._arenas or op.dst in self._tiers
            if op.dst.partition("://")[0] in ARENAS and not known:
                wanted[op.dst] = max(wanted.get(op.dst, 0), op.dst_offset + op.length)
        if sum(wanted.values()) > limit:
            raise UnknownPlace(
                f"the plan wants {sum(wanted.values())} bytes in {len(wanted)} new arenas",
                expected=f"at most {limit}",
                fix="raise the limit, or use another plan",
            )
        for place, size in wanted.items():
            self.arena(place, size)
        return tuple(wanted)

    def check(
        self,
        plan: CachePlan | SwapPlan | Plan,
        *,
        quotas: tuple[Quota, ...] = (),
        lane_rate: int = 0,
    ) -> tuple[Problem, ...]:
        """Return the warnings about a plan that can be carried out here.

        Args:
            plan: The plan; it is checked by `bb_ir.plan.check`, with the sizes of the places here.
            quotas: What its ops may move at most.
            lane_rate: Bytes per second of a lane, to see whether deadlines can be met.

        Raises:
            InvalidPlan: It is not sound, or needs what is not here; nothing was changed.
        """
        content = content_of(plan)
        # What is wrong anywhere goes first, before places are looked at.
        warnings = check(plan, media=media_of(content), quotas=quotas, lane_rate=lane_rate)
        sizes, missing = self._sizes(content)
        found = [*missing, *_past_ends(content.ops, sizes), *self._lacks(content)]
        if found:
            first, more = found[0], len(found) - 1
            raise InvalidPlan(
                f"{first.at}: {first.found}{f', and {more} more' if more else ''}",
                expected="places that are here",
                fix="give the places, or make a plan for those that there are",
                problems=(*found, *warnings),
            )
        return warnings

    def _sizes(self, plan: CachePlan | SwapPlan) -> tuple[dict[str, int], list[Problem]]:
        """Return how many bytes places have, and what is wrong with those that ops use."""
        ends: dict[str, int] = {}
        for op in plan.ops:
            ends[op.dst] = max(ends.get(op.dst, 0), op.dst_offset + op.length)
        found: dict[str, int] = {}
        missing: list[Problem] = []
        read: set[str] = set()
        made: set[str] = set()
        for index, op in enumerate(plan.ops):
            if op.src in read and op.dst in made:
                continue
            for field, place, told in (("src", op.src, read), ("dst", op.dst, made)):
                if place in told:
                    continue
                told.add(place)
                try:
                    size = self._size(place, ends.get(place), written=told is made)
                except (UnknownPlace, PlaceFailed) as error:
                    at = f"ops[{index}].{field}"
                    missing.append(Problem("place", at, error.found, index))
                    continue
                if size is not None:
                    found[place] = max(size, found.get(place, 0))
        return found, missing

    def _size(self, place: str, end: int | None, *, written: bool) -> int | None:
        """Return how long a place may be: now or, when ops write it up to an end, then."""
        scheme, _, path = place.partition("://")
        if place in self._arenas:
            return self._memory(place, written=written)
        if scheme == "net":
            self._need(place, self._fetch, "a function `fetch`")
            return None
        if scheme == "cas":
            return self._blob_size(place, path, end)
        if scheme != "file" and place not in self._tiers:
            return self.arena(place).nbytes
        if written:
            self._need(place, scheme != "file" or self._root >= 0, "a folder of files")
            self._probe(place, path)
            return self._largest
        with_end = -1 if end is None else end
        try:
            with self.source(place) as region:
                return max(region.size, 0, with_end)
        except PlaceFailed:
            if end is None:
                raise
            return end  # an op makes it

    def _memory(self, place: str, *, written: bool) -> int:
        memory = self._arenas[place]
        if written and memory.readonly:
            raise UnknownPlace(f"arena {place!r} is read-only", expected="one that can be written")
        return memory.nbytes

    def _blob_size(self, place: str, path: str, end: int | None) -> int | None:
        store = self._need(place, self._store, "a store")
        digest = parse_digest(path)
        if store.has(digest):
            return int(store.size(digest))
        if end is None:
            raise UnknownPlace(f"{place} is not in the store", expected="a blob that is")
        return end

    def _lacks(self, plan: CachePlan | SwapPlan) -> Iterator[Problem]:
        yield from _blobs(plan.ops)
        yield from self._codecs(plan)
        yield from self._too_early(plan)
        yield from self._room(plan.ops)

    def _codecs(self, plan: CachePlan | SwapPlan) -> Iterator[Problem]:
        known: tuple[str, ...] | None = None
        longest = 0
        made = {op.dst for op in plan.ops}
        old = old_chunks(plan)
        for index, op in enumerate(plan.ops):
            if op.codec and known is None:
                from bb_plans.deltas import CODECS, MAX_BYTES

                known, longest = CODECS, MAX_BYTES
            if op.codec and known is not None and op.codec not in known:
                told = f"is {op.codec[:80]!r}; there are {', '.join(known)}"
                yield Problem("place", f"ops[{index}].codec", told, index)
            if op.codec and op.length > longest:
                told = f"is {op.length}; a difference makes at most {longest}"
                yield Problem("place", f"ops[{index}].length", told, index)
            base = op.src_digest
            if base and f"cas://{digest_text(base)}" not in made and not self._has(base, old):
                told = f"the bytes of {digest_text(base)} are not here"
                yield Problem("place", f"ops[{index}].src_digest", told, index)

    def _has(self, digest: Digest, old: Mapping[Digest, FileChunk]) -> bool:
        if self._store is not None and self._store.has(digest):
            return True
        chunk = old.get(digest)
        return chunk is not None and self._now(f"file://{chunk.path}") >= _end(chunk)

    def _now(self, place: str) -> int:
        """Return how many bytes a place has now; -1 when it cannot be read."""
        try:
            with self.source(place) as region:
                return _LONGEST if region.size < 0 else region.size
        except BytesAndBrainsError:
            return -1

    def _too_early(self, plan: CachePlan | SwapPlan) -> Iterator[Problem]:
        """Yield ops that read what no op has written when it is their turn."""
        written = {op.dst for op in plan.ops}
        sizes: dict[str, int] = {}
        early: list[tuple[int, str, int, int]] = []
        for index, op in enumerate(plan.ops):
            if op.src not in written and op.src_digest is None:  # as nearly always
                continue
            for place, begin, end in _reads(op):
                if place not in written or place in self._arenas:
                    continue
                if place not in sizes:
                    sizes[place] = self._now(place)
                if end > sizes[place]:
                    early.append((index, place, max(begin, sizes[place]), end))
        if not early:
            return
        turns = order_of(plan.ops, old_chunks(plan)).turns
        writes = _writes(plan.ops, turns, {place for _, place, _, _ in early})
        for index, place, begin, end in early:
            runs = writes[place]
            if place.startswith("cas://"):  # it can be read when it is whole
                there = all(turn < turns[index] for _, _, turn in runs)
            else:
                there = sizes[place] >= 0 or begin < end
                there = there and _covered(runs, begin, end, turns[index])
            if not there:
                told = f"{place[:80]!r} is not there when it is to be read"
                yield Problem("order", f"ops[{index}].deps", told, index)

    def _room(self, ops: tuple[TransferOp, ...]) -> Iterator[Problem]:
        if self._root < 0:
            return
        told = os.fstatvfs(self._root)
        free = told.f_bavail * told.f_frsize
        lengths = [(op.dst, op.length) for op in ops if op.dst.startswith("file://")]
        if sum(length for _, length in lengths) <= free:
            return
        # Bytes that take the place of others need no room.
        ends: dict[str, int] = {}
        for op in ops:
            ends[op.dst] = max(ends.get(op.dst, 0), op.dst_offset + op.length)
        written: dict[str, int] = {}
        for place, length in lengths:
            written[place] = written.get(place, 0) + length
        grown = {place: ends[place] - max(0, self._now(place)) for place in written}
        wanted = sum(min(written[place], max(0, grown[place])) for place in written)
        if wanted > free:
            yield Problem("place", "ops", f"{wanted} bytes of files, and {free} are free")


_Run = tuple[int, int, int]


def _writes(
    ops: tuple[TransferOp, ...], turns: list[int], places: set[str]
) -> dict[str, list[_Run]]:
    """Return what is written in some places: from where to where, and when."""
    found: dict[str, list[_Run]] = {place: [] for place in places}
    for index, op in enumerate(ops):
        if op.dst in places:
            run = (op.dst_offset, op.dst_offset + op.length, turns[index])
            found[op.dst].append(run)
    for runs in found.values():
        runs.sort()
    return found


def _covered(runs: list[_Run], begin: int, end: int, turn: int) -> bool:
    """Tell whether bytes are all written before some turn."""
    at = max(0, bisect_right(runs, begin, key=lambda run: run[0]) - 1)
    at = bisect_left(runs, runs[at][0], key=lambda run: run[0])  # who writes the same, too
    while at < len(runs) and begin < end and runs[at][0] <= begin:
        if runs[at][2] < turn:
            begin = max(begin, runs[at][1])
        at += 1
    return begin >= end


def _end(chunk: FileChunk) -> int:
    return chunk.offset + chunk.length


def _reads(op: TransferOp) -> Iterator[tuple[str, int, int]]:
    """Yield the places that an op reads, from where to where."""
    begin = op.src_offset
    yield op.src, begin, begin + (op.encoded_length if op.codec else op.length)
    if op.src_digest is not None:
        yield f"cas://{digest_text(op.src_digest)}", 0, 0


def _past_ends(ops: tuple[TransferOp, ...], sizes: Mapping[str, int]) -> Iterator[Problem]:
    for index, op in enumerate(ops):
        reads = op.encoded_length if op.codec else op.length
        read, made = op.src_offset + reads, op.dst_offset + op.length
        if read <= sizes.get(op.src, _LONGEST) and made <= sizes.get(op.dst, _LONGEST):
            continue
        ends = (op.src, "src_offset", op.src_offset, reads), (
            op.dst, "dst_offset", op.dst_offset, op.length
        )  # fmt: skip
        for place, field, begin, size in ends:
            if begin + size > sizes.get(place, _LONGEST):
                told = (
                    f"{begin} and {size} bytes from there reach past {sizes[place]}, the end of "
                    f"{place[:80]!r}"
                )
                yield Problem("range", f"ops[{index}].{field}", told, index)


def _blobs(ops: tuple[TransferOp, ...]) -> Iterator[Problem]:
    """Yield blobs that the ops to them cannot make: with gaps, or of another digest."""
    runs: dict[str, list[tuple[int, int, int]]] = {}
    for index, op in enumerate(ops):
        if op.dst.startswith("cas://"):
            runs.setdefault(op.dst, []).append((op.dst_offset, op.dst_offset + op.length, index))
    for dst, parts in runs.items():
        end, whole = 0, max(part[1] for part in parts)
        for begin, upto, index in sorted(parts):
            if begin > end:
                told = f"nothing writes bytes {end} to {begin} of {dst[:80]!r}"
                yield Problem("range", f"ops[{index}].dst_offset", told, index)
            end = max(end, upto)
            digest = ops[index].digest
            if (begin, upto) == (0, whole) and digest and not _names(dst, digest):
                told = f"is another one than that of {dst[:80]!r}"
                yield Problem("digest", f"ops[{index}].digest", told, index)


def _names(dst: str, digest: Digest) -> bool:
    """Tell whether nothing speaks against a blob having a digest."""
    wanted = parse_digest(dst.removeprefix("cas://"))
    return wanted.algorithm is not digest.algorithm or wanted == digest
