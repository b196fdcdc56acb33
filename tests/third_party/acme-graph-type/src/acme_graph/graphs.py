"""The values: immutable, each over one array."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Graph:
    """A directed graph over one vector of int64: the number of nodes, then pairs of nodes."""

    def __init__(self, nodes: int, edges: ArrayLike) -> None:
        words = np.concatenate(([nodes], np.asarray(edges, "<i8").reshape(-1)))
        self._hold(words.astype("<i8"))

    @classmethod
    def over(cls, words: NDArray[Any]) -> Graph:
        """Return the graph that a vector holds, without copying it.

        Raises:
            ValueError: It holds none.
        """
        graph = cls.__new__(cls)
        graph._hold(words)
        return graph

    def _hold(self, words: NDArray[Any]) -> None:
        if len(words) % 2 == 0 or words[0] < 0:
            raise ValueError(f"{len(words)} words are no graph")
        ends = words[1:]
        if len(ends) and not (ends.min() >= 0 and ends.max() < words[0]):
            raise ValueError(f"an edge leaves the {words[0]} nodes")
        words.flags.writeable = False
        self.words = words

    @property
    def nodes(self) -> int:
        """How many nodes there are."""
        return int(self.words[0])

    @property
    def edges(self) -> NDArray[Any]:
        """Edges as rows of two."""
        return self.words[1:].reshape(-1, 2)


class WeightedGraph:
    """A graph whose edges have weights."""

    def __init__(self, graph: Graph, weights: ArrayLike) -> None:
        self.graph = graph
        self.weights = np.array(weights, "<f8")
