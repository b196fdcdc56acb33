"""Looks into a serialized graph before the library does, which believes what it reads.

The layout is that of usearch 2.x (its `index_dense.hpp` and `index.hpp`), little-endian:

    uint32 n, uint32 bytes of a vector, n vectors
    64 bytes: "usearch", version 3 x uint16, kinds of metric, scalar, key and slot, 1 byte each,
        uint64 present, uint64 deleted, uint64 dimensions, 1 byte for several vectors of a key,
        zeros
    uint64 n, connectivity, connectivity of level 0, highest level, entry
    n levels, int16
    n nodes: uint64 key, int16 level, and for each level from 0 to its own a list of neighbours:
        uint32 count, then room for as many uint32 as the connectivity of the level

This file reads bytes and builds nothing.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bb_index_usearch._measure import Metric

__all__ = ["Contents", "read"]

_HEAD: Final = struct.Struct("<7s3H4B3QB")
_HEAD_SIZE: Final = 64
_GRAPH: Final = struct.Struct("<5Q")
#: The library's numbers for metrics, float32, keys of 64 bits and slots of 32.
_METRICS: Final[dict[Metric, int]] = {"l2sq": 101, "ip": 105, "cosine": 99}
_KINDS: Final = (11, 14, 15)
#: No level is higher in a graph of 2**32 nodes.
_LEVELS: Final = 64
#: Nodes that are looked at together.
_STEP: Final = 4096

_Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Contents:
    """What a sound graph holds.

    Attributes:
        vectors: float32 (n, d), a view.
        labels: uint64 (n,).
    """

    vectors: NDArray[np.float32]
    labels: NDArray[np.uint64]


def read(buffer: _Bytes, dim: int, metric: Metric, connectivity: int) -> Contents:
    """Return what a graph holds, once every size and every neighbour in it has been checked.

    Args:
        buffer: uint8 (bytes,), contiguous.
        dim: Length of the vectors.
        metric: That of the graph.
        connectivity: Most neighbours of a node on levels above 0; twice that on level 0.

    Raises:
        ValueError: Something does not fit; the text says what.
    """
    _require(len(buffer) >= 8, f"{len(buffer)} bytes are too few for a graph")
    count, width = struct.unpack_from("<2I", buffer.data)
    _require(width == 4 * dim, f"its vectors have {width} bytes and not {4 * dim}")
    start = 8 + count * width
    end = start + _HEAD_SIZE + _GRAPH.size + 2 * count
    _require(count > 0 and len(buffer) >= end, f"{len(buffer)} bytes for {count} vectors")
    _check_head(buffer, start, (count, dim, _METRICS[metric]))
    graph = _GRAPH.unpack_from(buffer.data, start + _HEAD_SIZE)
    levels = buffer[end - 2 * count : end].copy().view("<i2").astype(np.int64)
    _check_graph(graph, levels, connectivity)
    nodes = _Nodes(buffer, end, levels, connectivity)
    labels = nodes.check()
    vectors = buffer[8:start].copy().view("<f4").reshape(count, dim)
    return Contents(vectors, labels)


def _require(sound: bool, found: str) -> None:  # noqa: FBT001  # reads as an assertion
    if not sound:
        raise ValueError(found)


def _check_head(buffer: _Bytes, start: int, expected: tuple[int, int, int]) -> None:
    magic, major, _, _, metric, *kinds, present, deleted, dim, multi = _HEAD.unpack_from(
        buffer.data, start
    )
    _require(magic == b"usearch" and major == 2, "it is no graph of usearch 2.x")
    _require((present, dim, metric) == expected, "its head is of another graph")
    _require(tuple(kinds) == _KINDS, f"its kinds of numbers are {kinds}")
    _require(not deleted and not multi, "it has removed or repeated entries")


def _check_graph(graph: tuple[int, ...], levels: NDArray[np.int64], connectivity: int) -> None:
    count, above, base, highest, entry = graph
    _require(count == len(levels), f"it has {count} nodes for {len(levels)} vectors")
    _require(
        (above, base) == (connectivity, 2 * connectivity),
        f"its connectivity is {above} and {base}",
    )
    low, high = int(levels.min()), int(levels.max())
    _require(low >= 0 and high == highest < _LEVELS, f"its levels are {low} to {high}")
    _require(entry < count and levels[entry] == highest, f"its entry is node {entry}")


class _Nodes:
    """The nodes of a graph, each in its place once the sizes add up."""

    def __init__(
        self, buffer: _Bytes, start: int, levels: NDArray[np.int64], connectivity: int
    ) -> None:
        self._buffer = buffer
        self._levels = levels
        self._above = connectivity
        sizes = 10 + 4 + 8 * connectivity + levels * (4 + 4 * connectivity)
        ends = start + np.cumsum(sizes)
        _require(int(ends[-1]) == len(buffer), f"{len(buffer)} bytes and not {int(ends[-1])}")
        self._starts = ends - sizes

    def check(self) -> NDArray[np.uint64]:
        """Check every node and return its key."""
        keys = np.empty(len(self._starts), np.uint64)
        for start in range(0, len(keys), _STEP):
            part = slice(start, start + _STEP)
            keys[part] = self._numbers(self._starts[part], 8).view("<u8")[:, 0]
            own = self._numbers(self._starts[part] + 8, 2).view("<i2")[:, 0]
            _require(bool((own == self._levels[part]).all()), "a node is of another level")
            for level in range(int(self._levels[part].max()) + 1):
                self._check_neighbours(part, level)
        return keys

    def _check_neighbours(self, part: slice, level: int) -> None:
        starts = self._starts[part][self._levels[part] >= level] + 10
        room = self._above if level else 2 * self._above
        if level:
            starts = starts + 4 + 8 * self._above + (level - 1) * (4 + 4 * self._above)
        lists = self._numbers(starts, 4 + 4 * room).view("<u4")
        counts, slots = lists[:, :1], lists[:, 1:]
        _require(bool((counts <= room).all()), f"a node has {counts.max()} neighbours")
        used = slots[np.arange(room) < counts].astype(np.int64)
        _require(bool((used < len(self._levels)).all()), "a neighbour is no node")
        _require(bool((self._levels[used] >= level).all()), "a neighbour is on no such level")

    def _numbers(self, starts: NDArray[np.int64], size: int) -> _Bytes:
        found: _Bytes = self._buffer[starts[:, None] + np.arange(size)]
        return found
