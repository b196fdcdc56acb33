"""How graphs become bytes. Bytes that come from elsewhere are checked by the classes themselves."""

from __future__ import annotations

import numpy as np

from acme_graph.graphs import Graph, WeightedGraph
from bb_roles import TypeCodec


class GraphCodec(TypeCodec[Graph]):
    """The words of the graph as they lie in memory."""

    def encode(self, value: Graph) -> memoryview:
        """Lend the graph's own memory."""
        return memoryview(value.words)

    def decode(self, data: memoryview) -> Graph:
        """Return a graph over the buffer."""
        return Graph.over(np.frombuffer(data, "<i8"))

    def is_instance(self, value: Graph) -> bool:
        """Take graphs that have nodes."""
        return value.nodes > 0


class WeightedGraphCodec(TypeCodec[WeightedGraph]):
    """The words of the graph, then one float64 per edge."""

    def encode(self, value: WeightedGraph) -> bytes:
        """Join both."""
        return value.graph.words.tobytes() + value.weights.tobytes()

    def decode(self, data: memoryview) -> WeightedGraph:
        """Take both apart: two words and a weight per edge, and one word more."""
        edges, rest = divmod(len(data) - 8, 24)
        if rest:
            raise ValueError(f"{len(data)} bytes are no graph with weights")
        end = 8 + 16 * edges
        graph = Graph.over(np.frombuffer(data[:end], "<i8"))
        return WeightedGraph(graph, np.frombuffer(data[end:], "<f8"))
