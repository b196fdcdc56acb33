"""Which ops of a plan wait for which, so that what comes out does not depend on who is faster.

An op waits for its `deps` and for the op before it in its lane. Where one reads or writes bytes
that another one writes, and neither waits for the other, the one that comes later in the plan
waits: the result is that of doing the ops one after the other. Pure, and linear but for sorting and
for pairs of ops that meet.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from bb_ir.plan import Digest, FileChunk, TransferOp, digest_text

__all__ = ["HAZARD", "LANE", "NEEDED", "Order", "neighbours", "order_of"]

#: Why one op waits for another: it comes later in the same lane; it needs the other one done; they
#: use the same bytes.
LANE: Final = 1
NEEDED: Final = 2
HAZARD: Final = 4

_ALL: Final = 1 << 65
_File = Mapping[Digest, FileChunk]


class Order(NamedTuple):
    """What waits for what.

    Attributes:
        after: For each op, the ops that wait for it, and why.
        waits: For each op, how many it waits for.
        turns: When each has its turn if one is done at a time; -1 for never.
        never: Ops that wait for themselves, by way of others.
    """

    after: list[dict[int, int]]
    waits: list[int]
    turns: list[int]
    never: tuple[int, ...]


def order_of(ops: Sequence[TransferOp], old: _File) -> Order:
    """Return what waits for what; ids that are in no op are left out.

    Args:
        ops: The ops.
        old: Chunks of the old version by their digest, as differences apply to them.
    """
    edges: list[dict[int, int]] = [{} for _ in ops]
    _told(ops, edges)
    turns = _turns(edges)
    never = tuple(index for index, turn in enumerate(turns) if turn < 0)
    for first, second, why in () if never else _met(ops, old, turns):
        edges[first][second] = edges[first].get(second, 0) | why
    waits = [0] * len(ops)
    for listed in edges:
        for one in listed:
            waits[one] += 1
    return Order(edges, waits, turns, never)


def _told(ops: Sequence[TransferOp], edges: list[dict[int, int]]) -> None:
    """Note the edges that the plan tells."""
    by_id = {op.op_id: index for index, op in enumerate(ops) if op.op_id}
    last: dict[str, int] = {}
    for index, op in enumerate(ops):
        if op.lane and op.lane in last:
            edges[last[op.lane]][index] = LANE
        if op.lane:
            last[op.lane] = index
        for dep in op.deps:
            if dep in by_id:
                waiting = edges[by_id[dep]]
                waiting[index] = waiting.get(index, 0) | NEEDED


def _turns(edges: list[dict[int, int]]) -> list[int]:
    """Return when each op has its turn if one is done at a time; -1 for never (Kahn)."""
    if all(index < one for index, listed in enumerate(edges) for one in listed):
        return list(range(len(edges)))  # what is waited for comes first, as nearly always
    waits = [0] * len(edges)
    for listed in edges:
        for one in listed:
            waits[one] += 1
    ready = [index for index, count in enumerate(waits) if not count]
    turns, turn = [-1] * len(edges), 0
    while ready:
        index = heapq.heappop(ready)
        turns[index], turn = turn, turn + 1
        for one in edges[index]:
            waits[one] -= 1
            if not waits[one]:
                heapq.heappush(ready, one)
    return turns


# --- ops that meet


class _Access(NamedTuple):
    begin: int
    end: int
    op: int
    writes: bool


def _met(ops: Sequence[TransferOp], old: _File, turns: list[int]) -> Iterator[tuple[int, int, int]]:
    """Yield pairs of ops that use the same bytes, in turn, and why the second waits."""
    for accesses in _accesses(ops, old).values():
        for one, other in _pairs(accesses):
            first, second = (one, other) if turns[one.op] < turns[other.op] else (other, one)
            needed = first.writes and not second.writes
            yield first.op, second.op, HAZARD | NEEDED if needed else HAZARD


def _accesses(ops: Sequence[TransferOp], old: _File) -> dict[str, list[_Access]]:
    """Return who uses the places that are written and read, or whose bytes are written twice."""
    written = {op.dst for op in ops}
    found: dict[str, list[_Access]] = {}
    for index, op in enumerate(ops):
        if op.src not in written and op.src_digest is None:  # as nearly always
            continue
        for place, begin, length in _reads(op, old):
            if place not in written:
                continue
            # A blob can be read when it is whole.
            run = (0, _ALL) if place.startswith("cas://") else (begin, begin + length)
            found.setdefault(place, []).append(_Access(*run, index, writes=False))
    # In a sound plan, ops that write the same bytes begin at the same one.
    begun = Counter((op.dst, op.dst_offset) for op in ops)
    for (dst, _), count in begun.items() if len(begun) < len(ops) else ():
        if count > 1:
            found.setdefault(dst, [])
    for index, op in enumerate(ops) if found else ():
        if op.dst in found:
            access = _Access(op.dst_offset, op.dst_offset + op.length, index, writes=True)
            found[op.dst].append(access)
    return found


def _reads(op: TransferOp, old: _File) -> Iterator[tuple[str, int, int]]:
    yield op.src, op.src_offset, op.encoded_length if op.codec else op.length
    if op.src_digest is None:
        return
    yield f"cas://{digest_text(op.src_digest)}", 0, 0
    chunk = old.get(op.src_digest)
    if chunk is not None:
        yield f"file://{chunk.path}", chunk.offset, chunk.length


def _pairs(accesses: list[_Access]) -> Iterator[tuple[_Access, _Access]]:
    """Yield overlapping accesses of different ops of which one at least writes (a sweep)."""
    open_reads: list[tuple[int, int, _Access]] = []
    open_writes: list[tuple[int, int, _Access]] = []
    for number, access in enumerate(sorted(accesses)):
        for heap in (open_reads, open_writes):
            while heap and heap[0][0] <= access.begin:
                heapq.heappop(heap)
        for heap in (open_reads, open_writes) if access.writes else (open_writes,):
            for _, _, other in heap:
                if other.op != access.op:
                    yield other, access
        if access.end > access.begin:
            item = (access.end, number, access)
            heapq.heappush(open_writes if access.writes else open_reads, item)


# --- ops side by side


def neighbours(ops: Sequence[TransferOp]) -> list[int]:
    """Return for each op the one whose bytes follow in both places; -1 for none."""
    begins = {
        (op.src, op.dst, op.lane, op.priority, op.src_offset, op.dst_offset): index
        for index, op in enumerate(ops)
        if not op.codec and op.length
    }
    return [
        -1
        if op.codec or not op.length
        else begins.get(
            (
                op.src, op.dst, op.lane, op.priority, op.src_offset + op.length,
                op.dst_offset + op.length,
            ),
            -1,
        )
        for op in ops
    ]  # fmt: skip
