"""Chunks into buckets: exactly first-fit decreasing, or one after the other.

Both are pure functions of columns: lengths in, buckets and offsets out. A tree over the buckets
whose inner nodes hold the most room beneath them finds the first bucket with room in O(log n), so
packing takes O(n log n) where the textbook loop takes O(n * buckets).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from bb_planner_swap.errors import UnpackableChunks
from bb_roles.kernels import compiled, wants_numba

__all__ = ["Column", "Packing", "first_fit_decreasing", "in_turn"]

Column = NDArray[np.int64]

_COMPILED_FROM: Final = 20_000  # chunks; below that, compiled code is not worth its loading
_MOST: Final = 1 << 62


class Packing(NamedTuple):
    """Which chunk goes where, as columns of int64.

    Attributes:
        order: Indices of the chunks, shape (chunks,), in the order of buckets, and within one in
            that of offsets.
        buckets: For each chunk, as they were given, the number of its bucket; shape (chunks,).
        offsets: For each chunk its first byte there; shape (chunks,).
        sizes: For each bucket its bytes; shape (buckets,).
        oversize: Indices of the chunks that are larger than a bucket; each has one of its own.
    """

    order: Column
    buckets: Column
    offsets: Column
    sizes: Column
    oversize: Column


def first_fit_decreasing(lengths: Sequence[int] | Column, capacity: int) -> Packing:
    """Put chunks into the first bucket that has room, the largest first.

    Chunks of the same length are taken in the order in which they are given, so sort them by name
    before. A chunk that is larger than any bucket has one of its own. There are at most 11/9 of the
    fewest possible buckets, plus 6/9 (Dosa, 2007).

    Args:
        lengths: Bytes of each chunk.
        capacity: Most bytes of a bucket.

    Raises:
        UnpackableChunks: The capacity is below 1, a length below 0, or the sum 4 EiB or more.
    """
    column = _column(lengths, capacity)
    falling = np.argsort(-column, kind="stable")
    sizes = column[falling]
    oversize = int(np.count_nonzero(column > capacity))  # the first ones, one bucket each
    buckets = np.empty_like(column)
    buckets[falling[:oversize]] = np.arange(oversize)
    buckets[falling[oversize:]] = oversize + _first_fit(sizes[oversize:], capacity)
    # A stable sort keeps what was packed first in front.
    order = falling[np.argsort(buckets[falling], kind="stable")]
    return _laid_out(column, order, buckets, capacity)


def in_turn(lengths: Sequence[int] | Column, capacity: int) -> Packing:
    """Put chunks into buckets in their order; a bucket that has no room for the next is closed.

    Whoever needs the first chunks first can begin when the first bucket is there. Buckets are at
    most twice the fewest possible.

    Args:
        lengths: Bytes of each chunk.
        capacity: Most bytes of a bucket.

    Raises:
        UnpackableChunks: The capacity is below 1, a length below 0, or the sum 4 EiB or more.
    """
    column = _column(lengths, capacity)
    buckets = np.zeros_like(column)
    ends = np.cumsum(column)
    bucket, begin, end = 0, 0, 0
    while begin < len(column):
        # All that ends within the capacity, counted from where this bucket begins; one at least.
        stop = max(begin + 1, int(np.searchsorted(ends, end + capacity, side="right")))
        buckets[begin:stop] = bucket
        bucket, begin, end = bucket + 1, stop, int(ends[stop - 1])
    return _laid_out(column, np.arange(len(column)), buckets, capacity)


def _column(lengths: Sequence[int] | Column, capacity: int) -> Column:
    least, most = (min(lengths), max(lengths)) if len(lengths) else (0, 0)
    if capacity < 1 or least < 0 or most >= _MOST or sum(map(int, lengths)) >= _MOST:
        raise UnpackableChunks(
            f"chunks of {least} to {most} bytes in buckets of {capacity}",
            expected="chunks of 0 bytes or more, 4 EiB in all at most, buckets of 1 or more",
        )
    return np.array(lengths, np.int64)


def _laid_out(lengths: Column, order: Column, buckets: Column, capacity: int) -> Packing:
    placed = lengths[order]
    ends = np.cumsum(placed)
    count = int(buckets.max()) + 1 if len(buckets) else 0
    first = np.searchsorted(buckets[order], np.arange(count))
    begins = (ends - placed)[first] if count else ends
    offsets = np.empty_like(lengths)
    offsets[order] = ends - placed - begins[buckets[order]]
    sizes = np.diff(np.append(begins, ends[-1:]))
    return Packing(order, buckets, offsets, sizes, np.flatnonzero(lengths > capacity))


# --- first fit, of sizes that fall and fit


def _first_fit(sizes: Column, capacity: int) -> Column:
    # More than all chunks together is as good as that, and fits a machine word.
    room = min(capacity, max(1, int(sizes.sum())))
    # Machine code takes numba, which the extra `fast` brings.
    if wants_numba("auto", len(sizes), least=_COMPILED_FROM):
        return cast("Column", compiled(_kernel)(sizes, room))
    return np.array(_interpreted(sizes.tolist(), room), np.int64)


def _interpreted(sizes: list[int], capacity: int) -> list[int]:
    leaves = _leaves(len(sizes), sum(sizes), capacity)
    room = [capacity] * (2 * leaves)
    found: list[int] = []
    at, count = 0, len(sizes)
    while at < count:
        size = sizes[at]
        node = 1
        while node < leaves:
            node *= 2
            if room[node] < size:
                node += 1
        # As many of one size as fit: real models have many chunks of one size.
        left, bucket = room[node], node - leaves
        while left >= size:
            left -= size
            found.append(bucket)
            at += 1
            if at == count or sizes[at] != size:
                break
        room[node] = left
        while node > 1:
            node //= 2
            most = max(room[2 * node], room[2 * node + 1])
            if room[node] == most:
                break
            room[node] = most
    return found


def _leaves(count: int, total: int, capacity: int) -> int:
    """Return a power of two that is enough buckets: no two of first fit are half empty."""
    most = min(count, 2 * total // capacity + 2)
    return 1 << max(0, most - 1).bit_length()


def _kernel(sizes: NDArray[np.int64], capacity: int) -> NDArray[np.int64]:
    """Do what `_interpreted` does, in the part of Python that numba compiles."""
    count = len(sizes)
    most = min(count, 2 * (sizes.sum() // capacity) + 4)
    leaves = 1
    while leaves < most:
        leaves *= 2
    room = np.full(2 * leaves, capacity, np.int64)
    found = np.empty(count, np.int64)
    for at in range(count):
        size = sizes[at]
        node = 1
        while node < leaves:
            node *= 2
            if room[node] < size:
                node += 1
        found[at] = node - leaves
        room[node] -= size
        while node > 1:
            node //= 2
            larger = max(room[2 * node], room[2 * node + 1])
            if room[node] == larger:
                break
            room[node] = larger
    return found
