"""A graph over vectors that never changes: growing makes another one.

usearch draws the level of a new node from a generator that it does not save and that starts anew
when memory grows. Two graphs with equal bytes would therefore go on differently. So here a graph
grows only from its own bytes, as if it had just been loaded, and by a whole batch: what comes of
it depends on the bytes and the batch. One thread builds it, in the order of the batch.

Algorithm: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
Hierarchical Navigable Small World graphs", IEEE TPAMI 42(4), 2020. This file removes nothing and
checks nothing that a user gave.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from usearch.index import Index

from bb_index_usearch._buffer import read
from bb_index_usearch._measure import Metric

__all__ = ["Graph", "Settings"]

_NAMES: Final[dict[Metric, str]] = {"l2sq": "l2sq", "ip": "ip", "cosine": "cos"}


@dataclass(frozen=True)
class Settings:
    """What a graph is built with; the fields are those of the component's configuration."""

    dim: int
    metric: Metric
    connectivity: int
    expansion_add: int
    expansion_search: int

    def empty(self) -> Any:
        """Return an index of the library without vectors."""
        return Index(
            ndim=self.dim,
            metric=_NAMES[self.metric],
            dtype="f32",
            connectivity=self.connectivity,
            expansion_add=self.expansion_add,
            expansion_search=self.expansion_search,
        )


class Graph:
    """Vectors with ascending ids, and edges among them.

    Args:
        settings: What it is built with.

    Attributes:
        settings: What it was built with.
        ids: int64 (n,), ascending; never written to.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._index = settings.empty()
        self.ids = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def grown(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> Graph:
        """Return a graph with more vectors (n, d); their ids are larger than all before."""
        made = Graph(self.settings)
        if len(self):
            made._index.load(bytes(self._index.save()))
        made._index.add(ids.astype(np.uint64), vectors, threads=1)
        made.ids = np.concatenate([self.ids, ids])
        return made

    def candidates(self, queries: NDArray[np.float32], count: int) -> list[NDArray[np.int64]]:
        """Return for each query (m, d) the ids of up to `count` vectors that seem nearest."""
        found = self._index.search(queries, count, threads=1)
        keys = np.asarray(found.keys).reshape(len(queries), -1).astype(np.int64)
        if len(queries) == 1:
            return [keys[0]]
        return [line[:n] for line, n in zip(keys, found.counts.tolist(), strict=True)]

    def vectors(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return vectors that are here, float32 (n, d)."""
        if not len(ids):
            return np.empty((0, self.settings.dim), np.float32)
        return np.stack(self._index.get(ids.astype(np.uint64)))

    def to_buffer(self) -> NDArray[np.uint8]:
        """Return its bytes, uint8 (bytes,)."""
        return np.frombuffer(bytes(self._index.save()), np.uint8).copy()

    @classmethod
    def from_buffer(cls, settings: Settings, buffer: NDArray[np.uint8]) -> Graph:
        """Read what `to_buffer` returned.

        Raises:
            ValueError: The bytes are damaged, or of a graph with other settings.
        """
        contents = read(buffer, settings.dim, settings.metric, settings.connectivity)
        made = cls(settings)
        made._index.load(buffer.tobytes())
        made.ids = contents.labels.astype(np.int64)
        return made
