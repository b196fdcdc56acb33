"""Sorts each coordinate of many vectors: tile by tile, with a network or with numpy's sort.

Up to `_NETWORK` vectors a tile is sorted as a hardware circuit would do it: a fixed list of
pairs of rows, of which the smaller values go to one row and the larger ones to the other. Each
step is one vector instruction over a tile that stays in the cache, and steps whose outcome no
wanted rank depends on are left out. More vectors are transposed and sorted row by row.

Ranks do not depend on the order in which the vectors are given. The two zeros are equal, so which
of them comes first may; callers add 0.0 to what they write, which makes both the positive one.

Source: K. E. Batcher, "Sorting networks and their applications", 1968 (odd-even merge sort).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["ranked_tiles", "working_dtype"]

#: Most vectors for which the network is faster.
_NETWORK: Final = 128
#: Elements per tile: enough to make calls cheap, few enough for the cache.
_TILE: Final = 1 << 14


class _Step(NamedTuple):
    """Compares two rows; `low` and `high` say whether anybody needs the one and the other."""

    first: int
    second: int
    low: bool
    high: bool


def working_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return in what values of a dtype are compared: short floats as float32, bools as uint8."""
    if dtype == np.bool_:
        return np.dtype(np.uint8)
    return np.dtype(np.float32) if "float" in dtype.name and dtype.itemsize == 2 else dtype


def ranked_tiles(
    vectors: Sequence[NDArray[Any]], ranks: Iterable[int]
) -> Iterator[tuple[slice, list[NDArray[Any]]]]:
    """Yield, tile by tile, the values of the wanted ranks.

    Args:
        vectors: One or more, all (d,) and of one dtype, finite.
        ranks: Which to return, ascending; 0 is the smallest of a coordinate.

    Yields:
        The slice of the tile, and one array for each rank, in `working_dtype`. They are scratch
        memory: valid until the next tile, and free to be written.
    """
    wanted = tuple(ranks)
    tiled = _by_network if len(vectors) <= _NETWORK else _by_sorting
    yield from tiled(vectors, wanted)


def _by_network(
    vectors: Sequence[NDArray[Any]], ranks: tuple[int, ...]
) -> Iterator[tuple[slice, list[NDArray[Any]]]]:
    count, size = len(vectors), vectors[0].size
    steps = _network(count, ranks)
    memory = np.empty((count + 1, min(_TILE, size)), working_dtype(vectors[0].dtype))
    for start in range(0, size, _TILE):
        tile = slice(start, min(start + _TILE, size))
        *rows, spare = memory[:, : tile.stop - start]
        for row, vector in zip(rows, vectors, strict=True):
            row[...] = vector[tile]
        for first, second, low, high in steps:
            one, other = rows[first], rows[second]
            if low and high:
                np.minimum(one, other, out=spare)
                np.maximum(one, other, out=other)
                rows[first], spare = spare, one
            elif low:
                np.minimum(one, other, out=one)
            else:
                np.maximum(one, other, out=other)
        yield tile, [rows[rank] for rank in ranks]


def _by_sorting(
    vectors: Sequence[NDArray[Any]], ranks: tuple[int, ...]
) -> Iterator[tuple[slice, list[NDArray[Any]]]]:
    count, size = len(vectors), vectors[0].size
    step = max(64, _NETWORK * _TILE // count)
    memory = np.empty((min(step, size), count), working_dtype(vectors[0].dtype))
    for start in range(0, size, step):
        tile = slice(start, min(start + step, size))
        columns = memory[: tile.stop - start]
        for at, vector in enumerate(vectors):
            columns[:, at] = vector[tile]
        columns.sort(axis=1)
        yield tile, [columns[:, rank] for rank in ranks]


@lru_cache(maxsize=256)
def _network(count: int, ranks: tuple[int, ...]) -> tuple[_Step, ...]:
    """Return the steps that put the wanted ranks in their places."""
    needed = set(ranks)
    steps: list[_Step] = []
    for first, second in reversed(list(_pairs(count))):
        low, high = first in needed, second in needed
        if low or high:
            steps.append(_Step(first, second, low, high))
            needed |= {first, second}
    return tuple(reversed(steps))


def _pairs(count: int) -> Iterator[tuple[int, int]]:
    """Yield the pairs of odd-even merge sort; what lies beyond `count` would stay where it is."""
    half = 1  # length of the runs that are sorted already
    while half < count:
        apart = half
        while apart:
            for first in range(count - apart):
                at = (first - apart % half) // apart
                inside = first >= apart % half and at % 2 == 0
                if inside and first // (2 * half) == (first + apart) // (2 * half):
                    yield first, first + apart
            apart //= 2
        half *= 2
