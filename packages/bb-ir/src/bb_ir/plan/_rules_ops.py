"""Rules that hold for the ops of any plan."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Final

from bb_ir.plan import _clear
from bb_ir.plan._fields import RANGES
from bb_ir.plan._problems import Problem, Quota, Surroundings, problem_of
from bb_ir.plan._tables import Table
from bb_ir.plan.digests import digest_text
from bb_ir.plan.errors import PlanFormatError
from bb_ir.plan.messages import TransferKind, TransferOp
from bb_ir.plan.places import Medium, Place, alike, parse_place

__all__ = ["op_problems"]

_FURTHEST: Final = RANGES["uint64"][1]

_MEDIA: Final[Mapping[TransferKind, tuple[Medium, Medium]]] = {
    TransferKind.H2D: (Medium.HOST, Medium.DEVICE),
    TransferKind.D2H: (Medium.DEVICE, Medium.HOST),
    TransferKind.P2P: (Medium.DEVICE, Medium.DEVICE),
    TransferKind.STORAGE2H: (Medium.STORAGE, Medium.HOST),
    TransferKind.H2STORAGE: (Medium.HOST, Medium.STORAGE),
    TransferKind.H2H: (Medium.HOST, Medium.HOST),
    TransferKind.NET2H: (Medium.NETWORK, Medium.HOST),
    TransferKind.STORAGE2STORAGE: (Medium.STORAGE, Medium.STORAGE),
}


def op_problems(
    ops: tuple[TransferOp, ...], around: Surroundings, table: Table | None
) -> Iterator[Problem]:
    """Yield what is wrong with ops, whatever plan they are in; `table` are the ops as columns."""
    if table is None or not _clear.ids(table):
        yield from _ids(ops)
    if table is None or not _clear.order(table):
        yield from _order(ops)
    places: dict[str, Place | str] = {}
    if table is None or not _each_is_clear(table, around):
        for index, op in enumerate(ops):
            ends = [_place(getattr(op, field), places) for field in ("src", "dst")]
            yield from _ends(index, op, ends, around)
            yield from _ranges(index, op, around)
            yield from _digests(index, op)
    if table is None or not _clear.apart(table):
        yield from _overlaps(ops)
    for quota in around.quotas:
        yield from _over(quota, ops, places)


def _each_is_clear(table: Table, around: Surroundings) -> bool:
    """Tell whether nothing is wrong with any op by itself."""
    sources, targets = table.column("src"), table.column("dst")
    stands_for = {text: alike(text) for text in {*sources, *targets}}
    named = {*zip(map(int, table.column("kind")), map(stands_for.__getitem__, sources),
                  map(stands_for.__getitem__, targets), strict=True)}  # fmt: skip
    places: dict[str, Place | str] = {}
    for kind, src, dst in named:
        op = TransferOp(TransferKind(kind), src, dst)
        ends = [_place(text, places) for text in (src, dst)]
        if any(_ends(0, op, ends, around)):
            return False
    found = [table.under(name) for name in ("digest", "src_digest")]
    return _clear.ends_fit(table, around.regions) and all(map(_clear.digests, found))


def _ids(ops: tuple[TransferOp, ...]) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for index, op in enumerate(ops):
        if op.op_id and first.setdefault(op.op_id, index) != index:
            told = f"is {op.op_id[:80]!r}, as that of ops[{first[op.op_id]}]"
            yield problem_of("ids", index, "op_id", told)


# --- order


def _order(ops: tuple[TransferOp, ...]) -> Iterator[Problem]:
    by_id = {op.op_id: index for index, op in enumerate(ops) if op.op_id}
    after: list[list[int]] = [[] for _ in ops]
    waits = [0] * len(ops)
    last: dict[str, int] = {}
    for index, op in enumerate(ops):
        before = [by_id[dep] for dep in op.deps if dep in by_id]
        if op.lane and op.lane in last:
            before.append(last[op.lane])
        if op.lane:
            last[op.lane] = index
        for one in before:
            after[one].append(index)
        waits[index] = len(before)
        for number, dep in enumerate(op.deps):
            if dep not in by_id:
                yield problem_of("order", index, f"deps[{number}]", f"{dep[:80]!r} is no op")
    for index in _never(after, waits):
        told = "is never done: what it waits for waits for it, or for others that do"
        yield problem_of("order", index, "deps", told)


def _never(after: list[list[int]], waits: list[int]) -> list[int]:
    """Return the ops that remain when all that can be done are done (Kahn's algorithm)."""
    ready = deque(index for index, count in enumerate(waits) if not count)
    while ready:
        for index in after[ready.popleft()]:
            waits[index] -= 1
            if not waits[index]:
                ready.append(index)
    return [index for index, count in enumerate(waits) if count]


# --- places and ranges


def _place(text: str, known: dict[str, Place | str]) -> Place | str:
    """Return a place, or why there is none; each text is read once."""
    found = known.get(text)
    if found is None:
        try:
            found = parse_place(text)
        except PlanFormatError as error:
            found = error.found
        known[text] = found
    return found


def _ends(
    index: int, op: TransferOp, ends: list[Place | str], around: Surroundings
) -> Iterator[Problem]:
    for field, end in zip(("src", "dst"), ends, strict=True):
        if isinstance(end, str):
            yield problem_of("place", index, field, end)
    if op.kind not in _MEDIA:
        yield problem_of("kind", index, "kind", f"is {op.kind.name}")
        return
    src, dst = ends
    if isinstance(src, str) or isinstance(dst, str):
        return
    found = _medium(src, around), _medium(dst, around)
    same_tier = op.kind is TransferKind.P2P and src.tier == dst.tier >= 0
    if found != _MEDIA[op.kind] and not same_tier:
        told = f"is {op.kind.name}, from {found[0].value} to {found[1].value}"
        yield problem_of("kind", index, "kind", told)


def _medium(place: Place, around: Surroundings) -> Medium:
    return place.medium if place.tier >= 0 else around.media.get(place.scheme, place.medium)


def _ranges(index: int, op: TransferOp, around: Surroundings) -> Iterator[Problem]:
    if op.codec and not op.encoded_length and op.length:
        yield problem_of("range", index, "encoded_length", f"is 0 with codec {op.codec[:80]!r}")
    if op.encoded_length and not op.codec:
        yield problem_of("range", index, "encoded_length", "is given without a codec")
    reads = op.encoded_length if op.codec else op.length
    for field, place, begin, size in (
        ("src_offset", op.src, op.src_offset, reads),
        ("dst_offset", op.dst, op.dst_offset, op.length),
    ):
        end = around.regions.get(place, _FURTHEST)
        if begin + size > end:
            told = (
                f"{begin} and {size} bytes from there reach past {end}, the end of {place[:80]!r}"
            )
            yield problem_of("range", index, field, told)


def _digests(index: int, op: TransferOp) -> Iterator[Problem]:
    for field, digest in (("digest", op.digest), ("src_digest", op.src_digest)):
        if digest is None:
            continue
        try:
            digest_text(digest)
        except PlanFormatError as error:
            yield problem_of("digest", index, field, error.found)


def _overlaps(ops: tuple[TransferOp, ...]) -> Iterator[Problem]:
    """Yield ops that write where one with a smaller offset writes, too."""
    by_place: dict[str, list[tuple[int, int, int]]] = {}
    for index, op in enumerate(ops):
        if op.length:
            run = (op.dst_offset, op.dst_offset + op.length, index)
            by_place.setdefault(op.dst, []).append(run)
    found: list[tuple[int, int]] = []
    for runs in by_place.values():
        runs.sort()
        furthest = runs[0]
        for run in runs[1:]:
            if run[0] < furthest[1] and not _same(ops[run[2]], ops[furthest[2]]):
                found.append((run[2], furthest[2]))
            furthest = max(furthest, run, key=lambda one: one[1])
    for index, other in sorted(found):
        told = f"writes bytes of {ops[index].dst[:80]!r} that ops[{other}] writes"
        yield problem_of("overlap", index, "dst_offset", told)


def _same(one: TransferOp, other: TransferOp) -> bool:
    place = (one.dst_offset, one.length) == (other.dst_offset, other.length)
    return place and one.digest is not None and one.digest == other.digest


def _over(
    quota: Quota, ops: tuple[TransferOp, ...], places: dict[str, Place | str]
) -> Iterator[Problem]:
    moved = 0
    for index, op in enumerate(ops):
        if not _counts(quota, op, _place(op.dst, places)):
            continue
        moved += op.length
        if moved > quota.limit:
            told = f"with it {moved} bytes count for {quota}"
            yield problem_of("quota", index, "length", told)
            return  # the first that is too much; what follows depends on what becomes of it


def _counts(quota: Quota, op: TransferOp, dst: Place | str) -> bool:
    node, tier = ("", -1) if isinstance(dst, str) else (dst.node, dst.tier)
    return (
        quota.node in ("", node)
        and (quota.tier < 0 or quota.tier == tier)
        and quota.tenant in ("", op.tenant)
    )
