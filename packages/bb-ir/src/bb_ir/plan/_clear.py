"""Rules that a plan plainly keeps, told from its columns.

What these say is all right is so, and the rules proper need not look; what they doubt, those look
at op by op, and say in words what is wrong.
"""

from __future__ import annotations

import itertools
import operator
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from bb_ir.plan._fields import RANGES, Row, rows
from bb_ir.plan._tables import Table
from bb_ir.plan.messages import DigestAlgorithm
from bb_ir.plan.places import unsafe

__all__ = [
    "accounted", "apart", "brought", "digests", "ends_fit", "ids", "manifest", "order", "pages",
    "scattered", "sources",
]  # fmt: skip

_FURTHEST: Final = RANGES["uint64"][1]
_SHA256: Final = re.compile("sha256:[0-9a-f]{64}", re.ASCII)
#: Numbers that numpy adds without leaving its own.
_SMALL: Final = 1 << 62


def ids(ops: Table) -> bool:
    """Tell whether ids are different."""
    given = [one for one in ops.columns.get("op_id", ()) if one]
    return len({*given}) == len(given)


def order(ops: Table) -> bool:
    """Tell whether every op waits only for ops before it, as those of one lane do anyway."""
    waiting = ops.columns.get("deps")
    if waiting is None:
        return True
    before: set[str] = set()
    for name, deps in zip(ops.column("op_id"), waiting, strict=True):
        if not before.issuperset(deps) or name in before:
            return False
        if name:
            before.add(name)
    return True


def ends_fit(ops: Table, regions: Mapping[str, int]) -> bool:
    """Tell whether nothing is read or written past any end, and codecs come with lengths."""
    begins = [*ops.columns.get("src_offset", (0,)), *ops.columns.get("dst_offset", (0,))]
    sizes = ops.columns.get("length", (0,))
    read = ops.columns.get("encoded_length", (0,))
    if max(begins, default=0) + max(*sizes, *read, 0) > _FURTHEST:
        return False
    codecs, encoded = ops.column("codec"), ops.column("encoded_length")
    if [*map(bool, codecs)] != [*map(bool, encoded)]:
        return False
    if not regions:
        return True
    length = ops.column("length")
    read = [one or plain for one, plain in zip(encoded, length, strict=True)]
    return _inside(ops, "src", read, regions) and _inside(ops, "dst", length, regions)


def _inside(ops: Table, end: str, sizes: Sequence[int], regions: Mapping[str, int]) -> bool:
    places, begins = ops.column(end), ops.column(f"{end}_offset")
    return all(
        begin + size <= regions.get(place, _FURTHEST)
        for place, begin, size in zip(places, begins, sizes, strict=True)
    )


def digests(table: Table) -> bool:
    """Tell whether digests are of an algorithm, and as long as it says."""
    # As numbers: an enum's own hash is a function of Python.
    known = {int(DigestAlgorithm.SHA256), int(DigestAlgorithm.BLAKE3)}
    found = {*map(int, table.column("algorithm"))}
    return found <= known and {*map(len, table.column("value"))} <= {32}


def apart(ops: Table) -> bool:
    """Tell whether no two ops write the same bytes."""
    sizes = ops.column("length")
    begins = ops.column("dst_offset")
    return runs_apart(ops.column("dst"), begins, sizes, empty=True)


def runs_apart(
    places: Sequence[str], begins: Sequence[int], sizes: Sequence[int], *, empty: bool
) -> bool:
    """Tell whether runs of bytes do not overlap; two empty ones at one place may, if `empty`."""
    import numpy as np

    if not places or max(begins) + max(sizes) > _SMALL:
        return not places
    numbers: dict[str, int] = {}
    place = np.fromiter((numbers.setdefault(one, len(numbers)) for one in places), np.int64)
    begin, size = np.array(begins, np.int64), np.array(sizes, np.int64)
    if empty:
        place, begin, size = (column[size > 0] for column in (place, begin, size))
    by = np.lexsort((size, begin, place))
    place, begin, size = place[by], begin[by], size[by]
    same = place[1:] == place[:-1]
    over = begin[1:] < begin[:-1] + size[:-1]
    twice = (begin[1:] == begin[:-1]) & (size[1:] == size[:-1])
    return not bool((same & (over | twice)).any())


# --- chunks


def manifest(chunks: Table) -> bool:
    """Tell whether chunks are safe and apart, and every one has a digest, in one field."""
    offsets, lengths = chunks.column("offset"), chunks.column("length")
    spans = chunks.columns.get("tensor", ())
    sizes = [None if one is None else one.end - one.begin for one in spans]
    return (
        not any(map(unsafe, {*chunks.column("path")}))
        and runs_apart(chunks.column("path"), offsets, lengths, empty=False)
        and all(map(_is_or_none, sizes, lengths))
        and _chunk_digests(chunks)
    )


def _is_or_none(size: int | None, length: int) -> bool:
    return size is None or size == length


def _chunk_digests(chunks: Table) -> bool:
    texts = chunks.columns.get("sha256")
    given = chunks.columns.get("digest")
    if texts is not None:
        return given is None and all(_SHA256.fullmatch(one) is not None for one in texts)
    if given is None:
        return not chunks.size
    present = all(map(operator.is_not, given, itertools.repeat(None)))
    return present and digests(chunks.under("digest"))


def accounted(plan: Table) -> bool:
    """Tell whether adds and shared are exactly `to`, and deletes what has no place in it."""
    old, new = (plan.under(name).under("files") for name in ("from_", "to"))
    told = [*_keys(plan.under("adds")), *_keys(plan.under("shared"))]
    if not _same(told, _keys(new)):
        return False
    kept = {*_places(new)} if old.size else set[Any]()
    gone = [place not in kept for place in _places(old)]
    return _same(itertools.compress(_keys(old), gone), _keys(plan.under("deletes")))


def _same(some: Iterable[Any], others: Iterable[Any]) -> bool:
    """Tell whether both have the same as often, in whatever order."""
    # As plain dictionaries: that of counters is compared in Python.
    return dict(Counter(some)) == dict(Counter(others))


def brought(plan: Table) -> bool:
    """Tell whether every add has a digest, in one field, which is that of an op."""
    adds, ops = plan.under("adds"), plan.under("ops")
    if "sha256" in adds.columns or (adds.size and "digest" not in adds.columns):
        return False
    wanted = {*_digests(adds)}
    return None not in wanted and wanted <= {*_digests(ops)}


def _digests(table: Table) -> Iterable[Any]:
    row = next(row for row in rows(table.cls) if row.name == "digest")
    return _comparable(table, row)


def _keys(table: Table) -> list[tuple[Any, ...]]:
    """Return messages as tuples, which are quick to compare."""
    return [*zip(*(_comparable(table, row) for row in rows(table.cls)), strict=True)]


def _comparable(table: Table, row: Row) -> Iterable[Any]:
    column = table.columns.get(row.name)
    if column is None:
        return [row.default] * table.size
    if row.kind == "enum":
        return map(int, column)
    if row.kind != "message":
        return column
    left = iter(_keys(table.below[row.name]))
    return [None if one is None else next(left) for one in column]


def _places(chunks: Table) -> list[tuple[str, str, int]]:
    """Return what `bb_ir.plan.chunk_place` does, for all."""
    paths, offsets = chunks.column("path"), chunks.column("offset")
    spans = chunks.columns.get("tensor", [None] * chunks.size)
    return [
        (path, "", offset) if span is None else (path, span.name, span.begin)
        for path, offset, span in zip(paths, offsets, spans, strict=True)
    ]


def sources(ops: Table, manifests: Sequence[Table]) -> list[int]:
    """Return the ops that have to be looked at: those that do not bring one whole chunk.

    An op that is left out has a digest, which is that of the chunk.
    """
    whole = {one for chunks in manifests for one in _whole(chunks)}
    columns = ops.column("src"), ops.column("src_offset"), ops.column("length"), _digests(ops)
    return [index for index, one in enumerate(zip(*columns, strict=True)) if one not in whole]


def _whole(chunks: Table) -> Iterable[tuple[str, int, int, Any]]:
    """Return how ops that bring a whole chunk name it, those without a digest left out."""
    if "digest" not in chunks.columns or "sha256" in chunks.columns:
        return ()
    places = map("file://{}".format, chunks.column("path"))
    columns = chunks.column("offset"), chunks.column("length"), _digests(chunks)
    named = zip(places, *columns, strict=True)
    return (one for one in named if one[3] is not None)


# --- pages


def pages(refs: Table) -> bool:
    """Tell whether no pages are past any end."""
    last = max(refs.column("page"), default=0) + max((1, *refs.columns.get("page_count", ())))
    return bool(last <= _FURTHEST)


def scattered(ops: Table, now_ns: int) -> list[int]:
    """Return the ops of a cache that have to be looked at: all but those of one run of pages.

    Raises nothing, and leaves out only ops whose pages are inside all bounds, as long as the op,
    and not due before `now_ns`.
    """
    refs = ops.under("kv_refs")
    counts = [one or 1 for one in refs.column("page_count")]
    runs = iter(zip(refs.column("page"), counts, refs.column("page_bytes"), strict=True))
    found: list[int] = []
    columns = ops.column("kv_refs"), ops.column("length"), ops.column("deadline_ns")
    for index, (given, length, deadline) in enumerate(zip(*columns, strict=True)):
        page, count, size = next(runs, (0, 0, 0)) if len(given) == 1 else (0, 0, 0)
        if len(given) > 1:
            next(itertools.islice(runs, len(given) - 1, None), None)
        fits = length == count * size if size else bool(count) and not length % count
        if not fits or page + count > _FURTHEST or 0 < deadline < now_ns:
            found.append(index)
    return found
