"""Where the vectors are: arrays that grow in large steps, with marks on what was removed.

Rows stand in the order of their ids, so an id is found by bisection. A removed row stays in place
until half of all rows are removed; so however vectors come and go, each is copied a bounded number
of times on average.

This file computes no distances and checks nothing that a user gave.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rows", "Store"]

_FEWEST: Final = 64


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a store, as views.

    Attributes:
        vectors: float32 (n, d).
        squares: Squared length of each, float64 (n,).
        ids: Ascending, int64 (n,).
        alive: False where the vector has been removed, bool (n,).
    """

    vectors: NDArray[np.float32]
    squares: NDArray[np.float64]
    ids: NDArray[np.int64]
    alive: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, chosen: slice) -> Rows:
        """Return some of the rows, as views."""
        return self._pick(chosen)

    def living(self) -> Rows:
        """Return copies of the rows that hold a vector."""
        return self._pick(self.alive)

    def _pick(self, chosen: slice | NDArray[np.bool_]) -> Rows:
        return Rows(
            self.vectors[chosen], self.squares[chosen], self.ids[chosen], self.alive[chosen]
        )


class Store:
    """Vectors of one dimension, with ids that are given out once.

    Args:
        dim: Length of the vectors.
        next_id: The first id to give out.

    Attributes:
        next_id: The id that the next vector gets.
        live: Number of vectors that have not been removed.
    """

    def __init__(self, dim: int, next_id: int = 0) -> None:
        self.next_id = next_id
        self.live = 0
        self._size = 0
        self._rows = _empty(0, dim)

    @property
    def rows(self) -> Rows:
        """All rows, those of removed vectors among them."""
        return self._rows.part(slice(self._size))

    def snapshot(self) -> Rows:
        """Return all rows as they are now, whatever is added or removed later.

        Rows are written once, before they are part of any view; marks alone are changed.
        """
        rows = self.rows
        return Rows(rows.vectors, rows.squares, rows.ids, rows.alive.copy())

    def add(self, vectors: NDArray[np.float32], squares: NDArray[np.float64]) -> NDArray[np.int64]:
        """Copy vectors in and return their ids."""
        ids = np.arange(self.next_id, self.next_id + len(vectors), dtype=np.int64)
        self.put(vectors, squares, ids)
        self.next_id += len(vectors)
        return ids

    def put(
        self, vectors: NDArray[np.float32], squares: NDArray[np.float64], ids: NDArray[np.int64]
    ) -> None:
        """Copy vectors in under ids that are larger than all before."""
        start, stop = self._size, self._size + len(ids)
        self._reserve(stop)
        added = self._rows.part(slice(start, stop))
        added.vectors[:] = vectors
        added.squares[:] = squares
        added.ids[:] = ids
        added.alive[:] = True
        self._size = stop
        self.live += len(ids)

    def find(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row of each id, -1 where there is no such vector."""
        rows = self.rows
        if not len(rows):
            return np.full(len(ids), -1, np.int64)
        at = np.minimum(np.searchsorted(rows.ids, ids), len(rows) - 1)
        return np.where((rows.ids[at] == ids) & rows.alive[at], at, -1)

    def remove(self, at: NDArray[np.int64]) -> None:
        """Remove the vectors of these rows, which all hold one; a row may be named twice."""
        self.rows.alive[at] = False
        self.live -= len(np.unique(at))
        if self._size > max(_FEWEST, 2 * self.live):
            self._close_gaps()

    def _close_gaps(self) -> None:
        self._rows = self.rows.living()
        self._size = self.live

    def _reserve(self, size: int) -> None:
        if size <= len(self._rows):
            return
        known = self.rows
        self._rows = _empty(max(size, 2 * self._size, _FEWEST), known.vectors.shape[1])
        copied = self._rows.part(slice(self._size))
        copied.vectors[:] = known.vectors
        copied.squares[:] = known.squares
        copied.ids[:] = known.ids
        copied.alive[:] = known.alive


def _empty(size: int, dim: int) -> Rows:
    return Rows(
        np.empty((size, dim), np.float32),
        np.empty(size, np.float64),
        np.empty(size, np.int64),
        np.empty(size, np.bool_),
    )
