"""Waves, blocks and layouts: acceptance rows B17 and B18, and what else they promise."""

from dataclasses import replace

import numpy as np
import pytest

from bb_planner_kvcache.blocks import block_bytes, block_ranges
from bb_planner_kvcache.config import KvCacheConfig
from bb_planner_kvcache.errors import BadColumn, InvalidWave
from bb_planner_kvcache.layout import packed
from bb_planner_kvcache.planner import KvCachePlanner
from bb_planner_kvcache.waves import SHAPES, check_wave, snake, waves_of
from bb_roles import CacheRequest, CacheTables

NOW = 10**12
KIB = 1 << 10


def window(pages, due, prefix, node=None, **more):
    size = len(pages)
    requests = {
        "page_start": pages, "page_end": pages, "page_bytes": [KIB] * size,
        "tier_src": [0] * size, "tier_dst": [1] * size, "node": node or [0] * size,
        "deadline_ms": [10**6 + one for one in due], "prefix_id": prefix, **more,
    }  # fmt: skip
    tables = CacheTables({name: np.array(one) for name, one in requests.items()})
    planner = KvCachePlanner(KvCacheConfig(min_io_bytes=0))
    return planner.columns(CacheRequest(NOW, 20, tables=tables))


def test_a_wave_of_five_runs_b17():
    found = window([0, 10, 20, 30, 40], [50, 40, 30, 20, 10], [1, 0, 1, 0, 1])

    waves = waves_of(found.ops)

    assert [*waves] == [(0, 1)]
    wave = waves[0, 1]
    assert wave.tile_order == ((0, 0), (0, 1), (0, 2), (1, 2), (1, 1))
    assert wave.swap_window == (5, 10)
    assert (wave.bm, wave.bn, wave.bk, wave.cluster_shape) == (128, 128, 64, (2, 1))
    assert dict(wave.tmem_layout) == {"columns": 8, "phases": 4, "double_buffer": 1, "stage_n": 2}
    assert wave.pack_order == (3, 1, 4, 2, 0)  # by prefix, then by deadline
    assert wave.io_extents == (
        ("0", 30, 30), ("0", 10, 10), ("0", 40, 40), ("0", 20, 20), ("0", 0, 0),
    )  # fmt: skip


@pytest.mark.parametrize(
    "change", [{"bk": 33}, {"swap_window": (4, 4)}], ids=["B17-bk", "B17-swap"]
)
def test_waves_that_cannot_run(change):
    wave = waves_of(window([0], [10], [0]).ops)[0, 1]

    with pytest.raises(InvalidWave) as caught:
        check_wave(replace(wave, **change))

    assert caught.value.expected


def test_tiles_without_a_kernel_are_told_with_those_there_are():
    wave = waves_of(window([0], [10], [0]).ops)[0, 1]

    with pytest.raises(InvalidWave, match="128x128x32 in 2 stages") as caught:
        check_wave(replace(wave, bk=32))

    assert "256x128x64" in caught.value.expected


def test_there_is_a_wave_for_each_tier_of_each_node():
    waves = waves_of(window([0, 5, 9], [1, 2, 3], [0, 0, 0], [0, 1, 0]).ops, SHAPES[3])

    assert [(place, len(wave.tile_order)) for place, wave in waves.items()] == [
        ((0, 1), 2), ((1, 1), 1),
    ]  # fmt: skip
    assert waves[0, 1].tmem_layout["stage_n"] == 3
    assert waves_of(window([], [], []).ops) == {}


def test_snakes_turn_at_the_ends():
    assert snake(0) == ()
    assert snake(1) == ((0, 0),)
    assert [column for _, column in snake(9)] == [0, 1, 2, 2, 1, 0, 0, 1, 2]
    assert all(len({*snake(size)}) == size for size in range(200))


def test_blocks_b18():
    assert block_bytes(8, 16, 64, "fp16") == 32_768
    assert [block_bytes(8, 16, 64, one) for one in ("fp32", "bf16", "fp8")] == [
        65_536, 32_768, 16_384,
    ]  # fmt: skip
    ranges = block_ranges([(0, 0), (0, 1), (0, 2), (0, 4), (1, 3)])
    assert [(one.start, one.end) for one in ranges] == [(0, 2), (4, 4), (3, 3)]
    assert block_ranges([(1, 3), (0, 4), (0, 3), (0, 4)]) == ((0, 3, 4), (1, 3, 3))


@pytest.mark.parametrize(
    ("given", "text"), [((0, 16, 64), "0 heads"), ((8, 16, 64, "int3"), "dtype is 'int3'")]
)
def test_bad_blocks(given, text):
    with pytest.raises(BadColumn, match=text):
        block_bytes(*given)


def test_packed_layers_lie_side_by_side():
    columns = {
        "page_start": [0, 2, 0, 0], "page_end": [1, 4, 0, 2], "page_bytes": [10, 10, 30, 10],
        "layer": [1, 1, 1, 0], "tier_src": [0] * 4, "tier_dst": [1] * 4,
    }  # fmt: skip
    tables = CacheTables({name: np.array(one) for name, one in columns.items()})

    laid, size = packed(tables)

    # Layer 0 has 3 pages of 10 bytes, layer 1 has 5 of 10 bytes and one of 30.
    assert laid.requests["src_base"].tolist() == [30, 30, 80, 0]
    assert laid.requests["dst_base"].tolist() == [30, 30, 80, 0]
    assert size == 110
    planner = KvCachePlanner(KvCacheConfig(min_io_bytes=0))
    found = planner.columns(CacheRequest(NOW, 20, tables=laid))
    ends = found.ops["dst_offset"] + found.ops["bytes"]
    assert found.state.tolist() == [0] * 4
    assert sorted(zip(found.ops["dst_offset"].tolist(), ends.tolist(), strict=True)) == [
        (0, 30), (30, 80), (80, 110),
    ]  # fmt: skip
    assert packed(CacheTables({name: one[:0] for name, one in tables.requests.items()}))[1] == 0
    assert packed(CacheTables({})) == (CacheTables({}), 0)
