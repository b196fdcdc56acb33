"""Exact search in two passes: a fast one that misses nothing, and exact distances of what is left.

The distance of a query and a vector is computed in float64, by elementwise operations and numpy's
own sum over the last axis, and rounded to float32. That uses no BLAS, so it depends on the two
vectors alone and on nothing else: not on the block they stand in, not on threads, not on what is
stored beside them. The nearest are those that come first by (distance, id).

To compute it for all pairs would be slow. So a matrix product in float32 comes first. A dot product
of d terms in float32, in any order and with or without fused operations, is at most
d*u/(1 - d*u) * |q| * |x| off, u = 2**-24 (Higham, "Accuracy and Stability of Numerical Algorithms",
chapter 3). From it comes a lower bound of every distance, with twice that as margin for the few
roundings around it. Pairs whose bound is above the k-th best exact distance so far cannot be among
the nearest; the exact distances of all others are computed.

Everything is done in blocks whose memory does not grow with the number of vectors. Data that a
float32 cannot tell apart, such as many copies of one vector, makes it slow, never wrong.

This file knows no component; its input is finite and within `LENGTHS`.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from bb_index_flat._store import Rows
from bb_roles.indexing import Lengths, squares_of

__all__ = ["LENGTHS", "MAX_DIM", "Metric", "nearest"]

Metric = Literal["l2", "ip", "cosine"]

#: Longest vectors: up to here the bound on a dot product says something.
MAX_DIM: Final = 1 << 20
#: The longest leave room for a distance in float32; those without a direction that float32 can
#: compute with have no cosine.
LENGTHS: Final[dict[Metric, Lengths]] = {
    "l2": Lengths(None, 62), "ip": Lengths(None, 62), "cosine": Lengths(-50, 62)
}  # fmt: skip

#: Most queries in a block, most pairs in a block, most elements in a temporary array.
_QUERIES: Final = 256
_PAIRS: Final = 1 << 20
_ELEMENTS: Final = 1 << 19

_UNIT: Final = 2.0**-24
#: Above every bound and distance, and finite in float32.
_BEYOND: Final = 2.0**127
#: Absolute error of a product that is too small for a normal float32.
_TINY: Final = 2.0**-125

_Exact = NDArray[np.float64]
_Rough = NDArray[np.float32]
_Ids = NDArray[np.int64]


def _sums(terms: _Exact) -> _Exact:
    """Return the sum of each line, which depends on that line alone."""
    found: _Exact = terms.sum(axis=1)
    return found


def nearest(
    rows: Rows, live: int, queries: NDArray[np.float32], k: int, metric: Metric
) -> tuple[_Ids, _Rough]:
    """Return ids int64 and distances float32, both (m, k), by (distance, id).

    Args:
        rows: Where to search.
        live: How many of the rows hold a vector.
        queries: float32 (m, d).
        k: How many to return, at least 1; what is missing has id -1 and an infinite distance.
        metric: How distances are measured.
    """
    ids = np.full((len(queries), k), -1, np.int64)
    distances = np.full((len(queries), k), np.inf, np.float32)
    wanted = min(k, live)
    if not wanted:
        return ids, distances
    step = max(1, min(_QUERIES, _PAIRS // wanted, _ELEMENTS // queries.shape[1]))
    for start in range(0, len(queries), step):
        block = slice(start, start + step)
        best = _search_block(rows, _Queries(queries[block], metric), wanted)
        ids[block, :wanted] = best.ids
        distances[block, :wanted] = best.distances
    return ids, distances


def _search_block(rows: Rows, queries: _Queries, wanted: int) -> _Best:
    best = _Best(queries.count, wanted)
    step = max(1, _PAIRS // queries.count)
    for start in range(0, len(rows), step):
        block = rows.part(slice(start, start + step))
        bounds = queries.lower_bounds(block)
        near = bounds <= queries.limits(best)
        if wanted < len(block) and np.count_nonzero(near) > 2 * best.ids.size:
            # Too many to look at all of them: the most promising ones lower the limit first.
            columns = np.argpartition(bounds, wanted - 1, axis=1)[:, :wanted]
            lines = np.arange(queries.count)[:, None]
            first = np.zeros_like(near)
            first[lines, columns] = near[lines, columns]
            _look_at(first, block, queries, best)
            near = (bounds <= queries.limits(best)) & ~first
        _look_at(near, block, queries, best)
    return best


def _look_at(chosen: NDArray[np.bool_], block: Rows, queries: _Queries, best: _Best) -> None:
    """Put the exact distances of chosen pairs (queries, rows of the block) among the best."""
    lines, columns = np.nonzero(chosen)
    if lines.size:
        best.merge(lines, block.ids[columns], queries.distances(block, lines, columns))


class _Best:
    """The k nearest vectors so far of each query in a block."""

    def __init__(self, count: int, k: int) -> None:
        self.ids = np.full((count, k), -1, np.int64)
        self.distances = np.full((count, k), np.inf, np.float32)

    def merge(self, lines: _Ids, ids: _Ids, distances: _Rough) -> None:
        """Take over what is nearer; `lines` says which query each of the others belongs to."""
        known = np.nonzero(self.ids >= 0)
        lines = np.concatenate([known[0], lines])
        ids = np.concatenate([self.ids[known], ids])
        distances = np.concatenate([self.distances[known], distances])
        order = np.lexsort((ids, distances, lines))
        lines, ids, distances = lines[order], ids[order], distances[order]
        count, k = self.ids.shape
        rank = np.arange(len(lines)) - np.searchsorted(lines, np.arange(count))[lines]
        kept = rank < k
        place = lines[kept], rank[kept]
        self.ids[place] = ids[kept]
        self.distances[place] = distances[kept]


class _Queries:
    """A block of queries: bounds and exact distances to blocks of rows.

    Bounds have a scale of their own, in which they are cheap; `limits` has the same.
    """

    def __init__(self, queries: NDArray[np.float32], metric: Metric) -> None:
        self.count, dim = queries.shape
        self._metric = metric
        self._exact = queries.astype(np.float64)
        self._squares = squares_of(queries)
        #: Margin of a dot product, as a share of both lengths.
        self._margin = 2.0 * (dim + 16) * _UNIT
        self._tiny = 4 * dim * _TINY
        self._factors = queries if metric == "l2" else self._of_unit_length()

    def lower_bounds(self, block: Rows) -> _Rough:
        """Return a lower bound of each distance (queries, rows); infinite where none is alive."""
        products = self._factors @ block.vectors.T
        if self._metric == "l2":
            # |q|^2 is left to the limit. The margin is 2|q||x| <= |q|^2 + |x|^2 at most.
            products *= np.float32(-2.0)
            offset = (1.0 - self._margin) * block.squares - self._tiny
        elif self._metric == "ip":
            np.negative(products, out=products)
            offset = -self._margin * np.sqrt(block.squares) - self._tiny
        else:
            # The squares of removed rows are usable, too.
            products *= (-1.0 / np.sqrt(block.squares)).astype(np.float32)
            offset = np.full(len(block), -self._margin)
        products += np.where(block.alive, offset, np.inf).astype(np.float32)
        return products

    def limits(self, best: _Best) -> _Rough:
        """Return what the bound of a pair may be at most (queries, 1)."""
        worst = best.distances[:, -1:].astype(np.float64)
        if self._metric == "l2":
            worst -= (1.0 - self._margin) * self._squares[:, None]
        elif self._metric == "ip":
            worst /= self._lengths()[:, None]
        else:
            worst -= 1.0
        limit = np.clip(worst, -_BEYOND, _BEYOND).astype(np.float32)
        return np.nextafter(limit, np.float32(np.inf))

    def distances(self, block: Rows, lines: _Ids, columns: _Ids) -> _Rough:
        """Return the distances of pairs (query, row of the block)."""
        found = np.empty(len(lines), np.float32)
        step = max(1, _ELEMENTS // block.vectors.shape[1])
        for start in range(0, len(lines), step):
            part = slice(start, start + step)
            found[part] = self._measure(block, lines[part], columns[part])
        return found

    def _measure(self, block: Rows, lines: _Ids, columns: _Ids) -> _Exact:
        terms = block.vectors[columns].astype(np.float64)
        if self._metric == "l2":
            terms -= self._exact[lines]
            terms *= terms
            return _sums(terms)
        terms *= self._exact[lines]
        products = _sums(terms)
        if self._metric == "ip":
            return np.subtract(0.0, products)  # no negative zero
        # Of equal vectors this is sqrt(s * s) = s: the distance is 0 and not almost 0.
        lengths = np.sqrt(block.squares[columns] * self._squares[lines])
        found: _Exact = np.clip(1.0 - products / lengths, 0.0, 2.0)
        return found

    def _lengths(self) -> _Exact:
        lengths = np.sqrt(self._squares)
        lengths[lengths == 0.0] = 1.0
        return lengths

    def _of_unit_length(self) -> _Rough:
        return (self._exact / self._lengths()[:, None]).astype(np.float32)
