"""Which vectors are in the graph, which are not, and how both are searched.

The newest vectors wait outside the graph, where every search looks at all of them. When there are
enough for a batch, the graph grows by it (`_graph` says why in batches). So what is held is a
function of which vectors came and went in which order, however additions were cut into calls.

A removed vector stays in the graph as a way to others, marked, until more than half are marked;
then those that are left are put into a new one.

This file checks nothing that a user gave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bb_index_usearch._graph import Graph, Settings
from bb_index_usearch._measure import BLOCK, Metric, Near, measure

__all__ = ["Held", "nearest"]

#: Batches grow with the graph, which is copied for each of them.
_SHARE: Final = 256
#: A search asks the graph for so many more than it returns.
_SLACK: Final = 16
#: Where a search would ask for more than one in so many of the vectors, it looks at all.
_ALL: Final = 4

_Ids = NDArray[np.int64]
_Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Held:
    """All vectors of an index at one moment; what adds or removes some makes another of these.

    Attributes:
        graph: Vectors in a graph, removed ones among them.
        alive: Which of these have not been removed, bool (n,).
        ids: Those of the vectors that wait, int64 (p,), ascending, all above those of the graph.
        waiting: These vectors, float32 (p, d).
    """

    graph: Graph
    alive: NDArray[np.bool_]
    ids: _Ids
    waiting: _Vectors

    @classmethod
    def nothing(cls, settings: Settings) -> Held:
        """Return this without any vector."""
        empty = np.empty((0, settings.dim), np.float32)
        return cls(Graph(settings), np.empty(0, np.bool_), np.empty(0, np.int64), empty)

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return int(self.waiting.shape[1])

    def living(self) -> _Ids:
        """Return the ids of those in the graph that have not been removed."""
        return self.graph.ids[self.alive]

    def added(self, ids: _Ids, vectors: _Vectors, batch: int) -> Held:
        """Return this with vectors that wait, after those batches that are full have gone in."""
        ids = np.concatenate([self.ids, ids])
        waiting = np.concatenate([self.waiting, vectors])
        graph, alive, start = self.graph, self.alive, 0
        while len(ids) - start >= (size := max(batch, len(graph) // _SHARE)):
            part = slice(start, start + size)
            graph = graph.grown(ids[part], waiting[part])
            alive = np.concatenate([alive, np.ones(size, np.bool_)])
            start += size
        return Held(graph, alive, ids[start:].copy(), waiting[start:].copy())

    def without(self, ids: _Ids, batch: int) -> Held:
        """Return this without vectors that are here; one may be named twice."""
        alive = self.alive.copy()
        alive[_find(self.graph.ids, ids)[0]] = False
        kept = np.ones(len(self.ids), np.bool_)
        kept[_find(self.ids, ids)[0]] = False
        left = Held(self.graph, alive, self.ids[kept], self.waiting[kept])
        if 2 * np.count_nonzero(alive) >= len(alive):
            return left
        moved = left.living()
        return (
            Held.nothing(self.graph.settings)
            .added(moved, self.graph.vectors(moved), batch)
            .added(left.ids, left.waiting, batch)
        )

    def unknown(self, ids: _Ids) -> _Ids:
        """Return the places of ids that no vector here has."""
        at, known = _find(self.graph.ids, ids)
        known[known] = self.alive[at]
        return np.flatnonzero(~(known | _find(self.ids, ids)[1]))


def _find(ascending: _Ids, wanted: _Ids) -> tuple[_Ids, NDArray[np.bool_]]:
    """Return the places of those that are there, and which these are."""
    if not len(ascending):
        return np.empty(0, np.int64), np.zeros(len(wanted), np.bool_)
    at = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    there = ascending[at] == wanted
    return at[there], there


def nearest(held: Held, queries: _Vectors, k: int, metric: Metric) -> Sequence[Near]:
    """Return what is near each query (m, d), m at least 1."""
    found = [Near(k) for _ in queries]
    for near, query in zip(found, queries, strict=True):
        near.look_at(held.ids, measure(metric, query, held.waiting))
    live = int(np.count_nonzero(held.alive))
    wanted = min(k, live)
    if not wanted:
        return found
    # As many more as there are removed ones among those that the graph names.
    count = wanted * len(held.graph) // live + _SLACK
    if count * _ALL >= live:
        _look_at_all(held, list(zip(found, queries, strict=True)), metric)
        return found
    missed: list[tuple[Near, _Vectors]] = []
    for line, ids in enumerate(held.graph.candidates(queries, count)):
        seen = ids[held.alive[np.searchsorted(held.graph.ids, ids)]]
        if len(seen) < wanted:
            missed.append((found[line], queries[line]))
        else:
            found[line].look_at(seen, measure(metric, queries[line], held.graph.vectors(seen)))
    _look_at_all(held, missed, metric)
    return found


def _look_at_all(held: Held, pairs: Sequence[tuple[Near, _Vectors]], metric: Metric) -> None:
    """Compare some queries with all that lives in the graph."""
    if not pairs:
        return
    living = held.living()
    step = max(1, BLOCK // held.dim)
    for start in range(0, len(living), step):
        ids = living[start : start + step]
        vectors = held.graph.vectors(ids)
        for near, query in pairs:
            near.look_at(ids, measure(metric, query, vectors))
