"""Finds the largest magnitudes of a vector, without writing down all magnitudes.

Memory that is touched for the first time costs more than any of the arithmetic, so nothing as long
as the vector is allocated where few entries are wanted. A sample tells a magnitude that somewhat
more entries than wanted reach. Those are picked out, tile by tile, and the largest of them are the
largest of all, provided that they are enough. If the sample misled, all magnitudes are looked at.
So the result never depends on the sample, only the time does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["largest", "tiles"]

#: Elements per tile: its magnitudes stay in the cache.
_TILE: Final = 1 << 15
#: Elements of the sample, at least; shorter vectors than a few of them are not worth one.
_SAMPLE: Final = 1 << 13

_Places = NDArray[np.int64]


def largest(values: NDArray[Any], count: int) -> _Places:
    """Return the places of the largest magnitudes, ascending; of equal ones the first.

    Args:
        values: A vector (n,) of finite floats.
        count: How many; all where there are fewer.
    """
    if count >= values.size:
        return np.arange(values.size, dtype=np.int64)
    floor = _floor(values, count)
    if floor is not None:
        near = [
            tile.start + np.flatnonzero(np.abs(values[tile]) >= floor)
            for tile in tiles(values.size)
        ]
        places = np.concatenate(near)
        if places.size >= count:
            return places[_largest(np.abs(values[places]), count)]
    return _largest(np.abs(values), count)


def tiles(size: int) -> Iterator[slice]:
    """Divide so many elements into parts that stay in the cache."""
    return (slice(start, min(start + _TILE, size)) for start in range(0, size, _TILE))


def _floor(values: NDArray[Any], count: int) -> Any:
    """Return a magnitude that probably more than `count` entries reach, and not many more."""
    if values.size < 4 * _SAMPLE:
        return None
    sample = np.abs(values[:: values.size // _SAMPLE])
    share = sample.size * count / values.size
    # Four standard deviations of how many of the wanted entries a sample has.
    wanted = int(share + 4 * share**0.5 + 8)
    if wanted > sample.size // 4:
        return None
    return np.partition(sample, sample.size - wanted)[sample.size - wanted]


def _largest(magnitudes: NDArray[Any], count: int) -> _Places:
    if count == magnitudes.size:
        return np.arange(count, dtype=np.int64)
    cut = np.partition(magnitudes, magnitudes.size - count)[magnitudes.size - count]
    above = np.flatnonzero(magnitudes > cut)
    equal = np.flatnonzero(magnitudes == cut)[: count - above.size]
    return np.sort(np.concatenate((above, equal)))
