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

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bb_aggregator_krum._products import Vectors, inner_products
from bb_roles.kernels import Engine

__all__ = ["squared_distances"]

#: A distance is trusted when cancellation took at most this many bits.
_LOST: Final = 20

_Floats = NDArray[np.float64]


def squared_distances(vectors: Vectors, count: int, engine: Engine = "auto") -> _Floats:
    """Return the squared Euclidean distance of each pair.

    Args:
        vectors: For each dtype, one or more vectors (d,) of values below 2**450 in magnitude.
        count: Their number n, also where there are none of any dtype.
        engine: Who computes them.

    Returns:
        A symmetric matrix (n, n) with zeros in its diagonal, and for vectors that are equal.
    """
    return _between(vectors, list(range(count)), engine)


def _between(vectors: Vectors, members: list[int], engine: Engine) -> _Floats:
    """Return the distances of some of the vectors; the first of them is the origin."""
    gram = inner_products(vectors, members, engine)
    squares = np.diagonal(gram)
    reach = squares[:, None] + squares[None, :]
    distances = np.maximum(reach - 2 * gram, 0.0)
    np.fill_diagonal(distances, 0.0)
    unsure = distances < reach * 2.0**-_LOST
    np.fill_diagonal(unsure, val=False)
    # The origin is never among them: its distances are sums of squares, without cancellation.
    for close in _components(unsure):
        again = _between(vectors, [members[at] for at in close], engine)
        places = np.ix_(close, close)
        distances[places] = np.where(unsure[places], again, distances[places])
    return distances


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
