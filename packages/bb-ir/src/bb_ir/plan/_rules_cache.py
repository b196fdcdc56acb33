"""Rules of plans that move pages of a KV cache."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

from bb_ir.plan import _clear
from bb_ir.plan._fields import RANGES
from bb_ir.plan._problems import Problem, Surroundings, late, problem_of
from bb_ir.plan.messages import CachePlan, KvPageRef, TransferOp

__all__ = ["cache_problems"]

_FURTHEST: Final = RANGES["uint64"][1]


def cache_problems(plan: CachePlan, around: Surroundings) -> Iterator[Problem]:
    """Yield what is wrong with a plan for a cache, besides its ops in themselves."""
    table = around.table
    doubted = _clear.scattered(table.under("ops"), plan.now_ns) if table else range(len(plan.ops))
    for index in doubted:
        op = plan.ops[index]
        yield from _pages(index, op)
        if 0 < op.deadline_ns < plan.now_ns:
            told = f"{op.deadline_ns} was over when the window began"
            yield problem_of("time", index, "deadline_ns", told, warning=True)
    for field in ("prefetch", "evict", "admission"):
        if table and _clear.pages(table.under(field)):
            continue
        for index, ref in enumerate(getattr(plan, field)):
            yield from _bounds(f"{field}[{index}]", ref, None)
    yield from _rejected(plan)
    yield from late(plan.ops, plan.now_ns, around.lane_rate)


def _pages(index: int, op: TransferOp) -> Iterator[Problem]:
    if not op.kv_refs:
        yield problem_of("pages", index, "kv_refs", "is empty: it is not said which pages move")
        return
    for number, ref in enumerate(op.kv_refs):
        yield from _bounds(f"ops[{index}].kv_refs[{number}]", ref, index)
    yield from _twice(index, op)
    sizes = {ref.page_bytes for ref in op.kv_refs}
    pages = sum(_count(ref) for ref in op.kv_refs)
    if len(sizes) > 1:
        yield problem_of("pages", index, "kv_refs", f"mixes sizes of pages: {sorted(sizes)}")
    elif sizes == {0} and op.length % pages:
        told = f"is {op.length}, which {pages} pages of one size cannot be"
        yield problem_of("pages", index, "length", told)
    elif sizes != {0} and op.length != pages * min(sizes):
        told = f"is {op.length}, and its {pages} pages have {pages * min(sizes)}"
        yield problem_of("pages", index, "length", told)
    yield from _gaps(index, op, sizes)


def _gaps(index: int, op: TransferOp, sizes: set[int]) -> Iterator[Problem]:
    """Yield ends where pages lie by their numbers, and the op moves others along.

    That is so in a tier, when the op begins at the place of its first page; elsewhere pages may lie
    in any order, and one stack of them says nothing about where another one is.
    """
    if len(sizes) != 1 or sizes == {0} or len({_stack(ref) for ref in op.kv_refs}) != 1:
        return
    runs = sorted((ref.page, ref.page + _count(ref)) for ref in op.kv_refs)
    gap = next((one for one, after in itertools.pairwise(runs) if one[1] < after[0]), None)
    if gap is None:
        return
    begin = runs[0][0] * min(sizes)
    for place, offset in ((op.src, op.src_offset), (op.dst, op.dst_offset)):
        if place.startswith("tier://") and offset == begin:
            told = f"leave out page {gap[1]}, whose bytes the op moves in {place[:80]!r}"
            yield problem_of("pages", index, "kv_refs", told)
            return


def _stack(ref: KvPageRef) -> tuple[str, int, int]:
    return ref.tensor, ref.layer, ref.head


def _bounds(at: str, ref: KvPageRef, op: int | None) -> Iterator[Problem]:
    if ref.page + _count(ref) > _FURTHEST:
        yield Problem("pages", at, f"reaches past page {_FURTHEST}", op)


def _twice(index: int, op: TransferOp) -> Iterator[Problem]:
    """Yield refs that have a page of another ref of the op."""
    runs = sorted(
        (_stack(ref), ref.page, ref.page + _count(ref), number)
        for number, ref in enumerate(op.kv_refs)
    )
    for before, run in itertools.pairwise(runs):
        if run[0] == before[0] and run[1] < before[2]:
            told = f"has pages that kv_refs[{before[3]}] has"
            yield problem_of("pages", index, f"kv_refs[{run[3]}]", told)


def _count(ref: KvPageRef) -> int:
    return ref.page_count or 1


def _rejected(plan: CachePlan) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, one in enumerate(plan.rejected):
        if not one.request or one.request in seen:
            told = f"is {one.request[:80]!r}, which is empty or told before"
            yield Problem("request", f"rejected[{index}].request", told)
        if not one.reason:
            yield Problem("request", f"rejected[{index}].reason", "is empty")
        seen.add(one.request)
