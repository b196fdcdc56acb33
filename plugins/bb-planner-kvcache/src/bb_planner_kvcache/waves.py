"""Waves: how the runs of a window are computed on once they are there, tile by tile.

A wave belongs to one tier of one node. Its weights may be swapped while its tokens lie in the swap
window. What is here makes and checks the description; nothing computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from math import isqrt
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bb_planner_kvcache.errors import InvalidWave

__all__ = ["SHAPES", "Shape", "WaveSpec", "check_wave", "snake", "waves_of"]


class Shape(NamedTuple):
    """The form of a tile.

    Attributes:
        bm: Rows.
        bn: Columns.
        bk: Depth.
        stage_n: Stages of the pipeline.
        cluster: How many tiles are worked on together, by rows and columns.
    """

    bm: int
    bn: int
    bk: int
    stage_n: int
    cluster: tuple[int, int]


#: The forms that there are kernels for.
SHAPES: Final = (
    Shape(128, 128, 64, 2, (2, 1)),
    Shape(128, 256, 64, 2, (2, 1)),
    Shape(256, 128, 64, 2, (2, 1)),
    Shape(128, 128, 128, 3, (2, 1)),
)


@dataclass(frozen=True, slots=True)
class WaveSpec:
    """One wave.

    Attributes:
        pack_order: Rows of the window's moves, by prefix, then by deadline.
        tile_order: In which order tiles are computed, as row and column.
        bm: Rows of a tile.
        bn: Columns of a tile.
        bk: Depth of a tile.
        cluster_shape: How many tiles are worked on together.
        tmem_layout: How the memory of tensor cores is laid out: `columns`, `phases`,
            `double_buffer`, `stage_n`.
        io_extents: What is read: layer, first and last page of each move.
        swap_window: First token at which weights may be swapped, and the first at which they may
            not any more.
    """

    pack_order: tuple[int, ...]
    tile_order: tuple[tuple[int, int], ...]
    bm: int
    bn: int
    bk: int
    cluster_shape: tuple[int, int]
    tmem_layout: Mapping[str, int]
    io_extents: tuple[tuple[str, int, int], ...]
    swap_window: tuple[int, int]


def snake(size: int) -> tuple[tuple[int, int], ...]:
    """Return `size` tiles of a grid, row by row, every other row from right to left.

    The grid has as many rows as the whole part of the root of `size`.
    """
    if size < 1:
        return ()
    rows = isqrt(size)
    columns = -(-size // rows)
    tiles = (
        (row, column if row % 2 == 0 else columns - 1 - column)
        for row in range(rows)
        for column in range(columns)
    )
    return tuple(islice(tiles, size))


def waves_of(
    ops: Mapping[str, NDArray[Any]], shape: Shape = SHAPES[0], *, dtype_bytes: int = 2
) -> dict[tuple[int, int], WaveSpec]:
    """Return a wave for each tier of each node that a window moves pages to.

    Args:
        ops: The columns `Window.ops`.
        shape: The form of tiles.
        dtype_bytes: Bytes of an element.

    Returns:
        Waves by the numbers of node and tier.

    Raises:
        InvalidWave: There are no tiles of that form.
    """
    found: dict[tuple[int, int], WaveSpec] = {}
    places = zip(ops["node"].tolist(), ops["tier_dst"].tolist(), strict=True)
    for node, tier in sorted(set(places)):
        mine = np.flatnonzero((ops["node"] == node) & (ops["tier_dst"] == tier))
        due = ops["deadline_ns"][mine]
        due = np.where(due == 0, np.iinfo(np.int64).max, due)
        packed = mine[np.lexsort((due, ops["pcluster"][mine]))]
        tiles, size = snake(len(mine)), len(mine)
        found[node, tier] = WaveSpec(
            tuple(ops["row"][packed].tolist()), tiles, shape.bm, shape.bn, shape.bk,
            shape.cluster,
            MappingProxyType({
                "columns": 8, "phases": 4, "double_buffer": 1, "stage_n": shape.stage_n,
            }),
            tuple(
                (str(ops["layer"][at]), int(ops["start_pid"][at]), int(ops["end_pid"][at]))
                for at in packed
            ),
            (size, size + len(tiles)),
        )  # fmt: skip
        check_wave(found[node, tier], dtype_bytes=dtype_bytes)
    return found


def check_wave(wave: WaveSpec, *, dtype_bytes: int = 2) -> None:
    """Check that a wave can be run.

    Args:
        wave: The wave.
        dtype_bytes: Bytes of an element; a tile's depth has a multiple of 32 bytes.

    Raises:
        InvalidWave: Its tiles are of no known form, or its swap window is empty.
    """
    if dtype_bytes < 1 or wave.bk * dtype_bytes % 32:
        raise InvalidWave(
            f"a depth of {wave.bk} elements has {wave.bk * dtype_bytes} bytes",
            expected="a multiple of 32 bytes",
        )
    stages = wave.tmem_layout.get("stage_n")
    if (wave.bm, wave.bn, wave.bk, stages, wave.cluster_shape) not in SHAPES:
        raise InvalidWave(
            f"tiles are {wave.bm}x{wave.bn}x{wave.bk} in {stages} stages, "
            f"clusters {wave.cluster_shape}",
            expected="one of " + "; ".join(
                f"{one.bm}x{one.bn}x{one.bk} in {one.stage_n} stages, clusters {one.cluster}"
                for one in SHAPES
            ),
        )  # fmt: skip
    begin, end = wave.swap_window
    if not 0 <= begin < end:
        raise InvalidWave(
            f"the swap window is {begin} to {end}", expected="0 <= begin < end, in tokens"
        )
