"""Squared distances between many vectors, from a matrix of inner products.

With G = X X' the squared distance of two vectors is G_ii + G_jj - 2 G_ij: one matrix product
instead of a pass over memory for each pair. It loses all digits where two vectors are much closer
to each other than to the origin, so the first vector is made the origin. That is not enough where
the first one is an attacker's, far away: vectors that lie close together as seen from there are
taken apart, and the first of them is their origin, until nothing is lost.

What is returned has a relative error of about 2**-30: `_LOST` bits of the 52 of a binary64 may be
lost, and rounding in sums takes a few.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["squared_distances"]

#: A distance is trusted when cancellation took at most this many bits.
_LOST: Final = 20
#: Multiplications of one matrix product: few, so that BLAS libraries do not wake up threads for it.
_PRODUCT: Final = 400_000
#: Numbers that are widened and centred at once, and most of each vector: long pieces are read from
#: memory much faster than short ones of many vectors in turns.
_BLOCK: Final = 1 << 19
_PIECE: Final = 1 << 14

_Vectors = Sequence[Sequence[NDArray[Any]]]
_Floats = NDArray[np.float64]


def squared_distances(vectors: _Vectors, count: int) -> _Floats:
    """Return the squared Euclidean distance of each pair.

    Args:
        vectors: For each dtype, one or more vectors (d,) of values below 2**450 in magnitude.
        count: Their number n, also where there are none of any dtype.

    Returns:
        A symmetric matrix (n, n) with zeros in its diagonal, and for vectors that are equal.
    """
    return _between(vectors, list(range(count)))


def _between(vectors: _Vectors, members: list[int]) -> _Floats:
    """Return the distances of some of the vectors; the first of them is the origin."""
    count = len(members)
    gram = np.zeros((count, count))
    step = max(64, _PRODUCT // count**2)
    for block in _blocks(vectors, members):
        np.subtract(block, block[0].copy(), out=block)
        for start in range(0, block.shape[1], step):
            part = block[:, start : start + step]
            np.add(gram, part @ part.T, out=gram)
    squares = np.diagonal(gram)
    reach = squares[:, None] + squares[None, :]
    distances = np.maximum(reach - (gram + gram.T), 0.0)
    np.fill_diagonal(distances, 0.0)
    unsure = distances < reach * 2.0**-_LOST
    np.fill_diagonal(unsure, val=False)
    # The origin is never among them: its distances are sums of squares, without cancellation.
    for close in _components(unsure):
        again = _between(vectors, [members[at] for at in close])
        places = np.ix_(close, close)
        distances[places] = np.where(unsure[places], again, distances[places])
    return distances


def _blocks(vectors: _Vectors, members: list[int]) -> Iterator[_Floats]:
    """Yield the same part of all members as rows of binary64, free to be written."""
    step = min(_PIECE, max(64, _BLOCK // len(members)))
    for group in vectors:
        chosen = [group[member] for member in members]
        size = chosen[0].size
        memory = np.empty((len(chosen), min(step, size)))
        for start in range(0, size, step):
            block = memory[:, : min(step, size - start)]
            for row, vector in zip(block, chosen, strict=True):
                row[...] = vector[start : start + step]
            yield block


def _components(joined: NDArray[np.bool_]) -> Iterator[list[int]]:
    """Yield, ascending, the sets of more than one that are joined, directly or not."""
    left = set(range(len(joined)))
    while left:
        border = [min(left)]
        left.remove(border[0])
        found = set(border)
        while border:
            reached = left.intersection(np.flatnonzero(joined[border.pop()]).tolist())
            left -= reached
            found |= reached
            border.extend(reached)
        if len(found) > 1:
            yield sorted(found)
