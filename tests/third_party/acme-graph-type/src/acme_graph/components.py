"""The component: graphs as tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from acme_graph.graphs import Graph
from bb_roles import Codec, Context


class Adjacency(Codec):
    """Row i, column j is 1 where an edge leads from i to j."""

    def encode(self, ctx: Context, value: Graph) -> NDArray[Any]:
        """Return the matrix."""
        matrix = np.zeros((value.nodes, value.nodes), np.uint8)
        matrix[value.edges[:, 0], value.edges[:, 1]] = 1
        return matrix

    def decode(self, ctx: Context, encoded: NDArray[Any]) -> Graph:
        """Return the graph."""
        return Graph(len(encoded), np.argwhere(encoded))
