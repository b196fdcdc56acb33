"""Exact distances, and which are the smallest.

A distance is computed in float64, by elementwise operations and numpy's own sum over the last
axis, and rounded to float32: it depends on the two vectors alone, and has the same bits as that of
`index.flat`. Graphs only say which vectors are worth a look; what a search returns is measured
here.

This file knows no component and no graph; its input is finite and within range.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK", "Metric", "Near", "measure"]

Metric = Literal["l2sq", "ip", "cosine"]

#: Most elements in a temporary array.
BLOCK: Final = 1 << 19

_Exact = NDArray[np.float64]


def measure(
    metric: Metric, query: NDArray[np.float32], vectors: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the distances of one query (d,) to vectors (n, d), float32 (n,)."""
    found = np.empty(len(vectors), np.float32)
    exact = query.astype(np.float64)
    step = max(1, BLOCK // len(query))
    for start in range(0, len(vectors), step):
        block = vectors[start : start + step].astype(np.float64)
        found[start : start + step] = _distances(metric, exact, block)
    return found


def _distances(metric: Metric, query: _Exact, vectors: _Exact) -> _Exact:
    if metric == "l2sq":
        vectors -= query
        vectors *= vectors
        return _sums(vectors)
    products = _sums(vectors * query)
    if metric == "ip":
        return np.subtract(0.0, products)  # no negative zero
    # Of equal vectors this is sqrt(s * s) = s: the distance is 0 and not almost 0.
    lengths = np.sqrt(_sums(vectors * vectors) * (query * query).sum())
    found: _Exact = np.clip(1.0 - products / lengths, 0.0, 2.0)
    return found


def _sums(terms: _Exact) -> _Exact:
    """Return the sum of each line, which depends on that line alone."""
    found: _Exact = terms.sum(axis=1)
    return found


class Near:
    """The k nearest so far of one query, by (distance, id).

    Args:
        k: How many are kept.

    Attributes:
        ids: int64, at most k.
        distances: float32, as many.
    """

    def __init__(self, k: int) -> None:
        self._k = k
        self.ids = np.empty(0, np.int64)
        self.distances = np.empty(0, np.float32)

    def look_at(self, ids: NDArray[np.int64], distances: NDArray[np.float32]) -> None:
        """Take over what is nearer; no id comes twice."""
        ids = np.concatenate([self.ids, ids])
        distances = np.concatenate([self.distances, distances])
        order = np.lexsort((ids, distances))[: self._k]
        self.ids, self.distances = ids[order], distances[order]
