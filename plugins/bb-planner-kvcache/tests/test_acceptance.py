"""The acceptance rows of the planner: the row is in the id, each in both modes where it applies."""

import numpy as np
import pytest

from bb_ir.plan import validate
from bb_planner_kvcache.config import KvCacheConfig
from bb_planner_kvcache.planner import KvCachePlanner
from bb_planner_kvcache.window import REASONS
from bb_roles import CacheRequest, CacheTables
from bb_roles.errors import UnplannableRequest

NOW_MS = 10**6
KIB, MIB = 1 << 10, 1 << 20
BOTH = ("none", "bcache")


def table(**columns):
    return {name: np.array(column) for name, column in columns.items()}


def rows(*spans, kib=256, cluster=0, due=1000, **more):
    """Rows of requests: spans of pages, and what one or all of them have."""

    def each(value):
        return value if isinstance(value, (list, tuple)) else [value] * len(spans)

    return table(
        page_start=[span[0] for span in spans],
        page_end=[span[1] for span in spans],
        page_bytes=[one * KIB for one in each(kib)],
        pcluster=each(cluster),
        deadline_ms=[NOW_MS + one for one in each(due)],
        tier_src=each(0),
        tier_dst=each(1),
        node=each(0),
        tenant=each(0),
        **{name: np.array(each(value)) for name, value in more.items()},
    )


def planned(requests, mode, *, config=(), **tables):
    heat = tables.pop("heat", table(layer=[0], page_id=[0], decay_hits=[1.0]))
    latency = table(layer=[0], lat_ms=[5.0])
    settings = KvCacheConfig(**{"min_io_bytes": 0, "compat": mode, **dict(config)})
    names = {"node": ("n0",), "tenant": ("t",)}
    given = CacheTables(requests, heat, layer_latency=latency, names=names, **tables)
    request = CacheRequest(NOW_MS * 10**6, 20, tables=given)
    planner = KvCachePlanner(settings)
    if mode == "none":
        plan = planner.plan(request)
        assert [str(one) for one in validate(plan) if not one.warning] == []
    return planner.columns(request)


def ops(window):
    columns = [window.ops[name].tolist() for name in ("start_pid", "end_pid", "bytes", "fanout")]
    return sorted(zip(*columns, strict=True))


def states(window):
    return [REASONS[one] for one in window.state]


def caps(bandwidth, free=None):
    return table(tier=[1], bandwidth_caps=[bandwidth], free_bytes=[free or bandwidth])


SAME = {
    "B2": (rows((0, 1), (2, 2)), [(0, 2, 786_432, 2)]),
    "B3": (rows((0, 4), (3, 6)), [(0, 6, 1_835_008, 2)]),
    "B4": (rows((0, 1), (3, 4)), [(0, 1, 524_288, 1), (3, 4, 524_288, 1)]),
}


@pytest.mark.parametrize("mode", BOTH)
@pytest.mark.parametrize("row", SAME)
def test_runs_as_before(row, mode):
    requests, expected = SAME[row]

    window = planned(requests, mode)

    assert ops(window) == expected
    assert {*states(window)} == {"met"}


@pytest.mark.parametrize("mode", BOTH, ids=lambda mode: f"B1-{mode}")
def test_small_moves_are_put_off(mode):
    requests = rows((0, 1), (2, 2), kib=[300, 128], cluster=[0, 1])

    window = planned(requests, mode, config={"min_io_bytes": 512 * KIB})

    assert ops(window) == [(0, 1, 614_400, 1)]
    assert window.ops["overlap"].tolist() == [1]
    assert window.ops["priority"].tolist() == [1000.0]
    assert states(window) == ["met", "small"]


@pytest.mark.parametrize("mode", BOTH, ids=lambda mode: f"B2-{mode}")
def test_a_run_is_due_when_its_first_row_is(mode):
    window = planned(rows((0, 1), (2, 2), due=[900, 400]), mode)

    assert window.ops["deadline_ms"].tolist() == [NOW_MS + 400]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        pytest.param("none", [(0, 10, 2_883_584, 3)], id="B5-none"),
        pytest.param("bcache", [(0, 10, 2_883_584, 2), (5, 6, 524_288, 1)], id="B5-bcache"),
    ],
)
def test_nested_pages_move_once(mode, expected):
    assert ops(planned(rows((0, 10), (2, 3), (5, 6)), mode)) == expected


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        pytest.param("none", [(0, 1, 262_144, 1), (2, 3, 1_048_576, 1)], id="B6-none"),
        pytest.param("bcache", [(0, 3, 2_097_152, 2)], id="B6-bcache"),
    ],
)
def test_page_sizes_are_not_mixed(mode, expected):
    assert ops(planned(rows((0, 1), (2, 3), kib=[128, 512]), mode)) == expected


@pytest.mark.parametrize("mode", BOTH, ids=lambda mode: f"B7-{mode}")
def test_a_tier_takes_what_it_can(mode):
    requests = rows((0, 31), (100, 131), (200, 231), due=[100, 101, 102])

    window = planned(requests, mode, tier_caps=caps(16 * MIB))

    assert [one[0] for one in ops(window)] == [0, 100]
    assert states(window) == ["met", "met", "quota"]


@pytest.mark.parametrize(
    ("mode", "expected", "fate"),
    [
        pytest.param("none", [(0, 63, 16 * MIB, 1)], ["partial", "quota"], id="B8-none"),
        pytest.param("bcache", [], ["quota", "quota"], id="B8-bcache"),
    ],
)
def test_a_move_that_is_too_large_is_cut(mode, expected, fate):
    requests = rows((0, 79), (100, 103), due=[100, 200])

    window = planned(requests, mode, tier_caps=caps(16 * MIB))

    assert ops(window) == expected
    assert states(window) == fate


def test_what_was_cut_off_comes_first_in_the_next_window_b8():
    requests = rows((0, 79), (100, 103), due=[100, 200])
    held = table(tier=[1], page_start=[0], page_end=[63], page_bytes=[256 * KIB])

    window = planned(requests, "none", tier_caps=caps(16 * MIB), held=held)

    assert ops(window) == [(64, 79, 4 * MIB, 1), (100, 103, MIB, 1)]
    assert states(window) == ["met", "met"]


@pytest.mark.parametrize("mode", BOTH, ids=lambda mode: f"B9-{mode}")
def test_a_tenant_has_its_share(mode):
    requests = rows((0, 11), (20, 23), (40, 43), due=[100, 101, 102])
    allowed = table(tenant=[0], tier=[1], bandwidth_caps=[4 * MIB])

    window = planned(requests, mode, tenant_caps=allowed)

    assert [one[2] for one in ops(window)] == [3 * MIB, MIB]
    assert states(window) == ["met", "met", "tenant"]


@pytest.mark.parametrize("mode", BOTH, ids=lambda mode: f"B12-{mode}")
def test_hot_pages_are_kept(mode):
    heat = table(layer=[0, 0], page_id=[0, 5], decay_hits=[9.0, 10.0])

    window = planned(rows((0, 0), (5, 5)), mode, heat=heat)

    assert window.admission["layer"].tolist() == [0]
    assert window.admission["page"].tolist() == [5]
    assert window.prefetch.get("row", np.zeros(0)).tolist() == []


@pytest.mark.parametrize("mode", BOTH, ids=lambda mode: f"B13-{mode}")
def test_late_demands_move_when_they_are_popular(mode):
    heat = table(layer=[0, 0], page_id=[0, 5], decay_hits=[1.0, 2.0])

    window = planned(rows((0, 0), (5, 5), due=-10), mode, heat=heat)

    assert [one[0] for one in ops(window)] == [5]
    assert states(window) == ["late", "met"]


def test_nothing_asked_for_is_nothing_to_do_b14():
    window = planned(rows(), "none")

    assert ops(window) == []


def test_nothing_asked_for_is_refused_by_the_earlier_planner_b14():
    with pytest.raises(UnplannableRequest, match="nothing is asked for"):
        planned(rows(), "bcache")


@pytest.mark.parametrize(
    ("mode", "fanout"),
    [pytest.param("none", 1, id="B14-none"), pytest.param("bcache", 2, id="B14-bcache")],
)
def test_heat_that_is_told_twice(mode, fanout):
    heat = table(layer=[0, 0], page_id=[0, 0], decay_hits=[1.0, 1.0])

    assert planned(rows((0, 0)), mode, heat=heat).ops["fanout"].tolist() == [fanout]


@pytest.mark.parametrize("mode", BOTH, ids=lambda mode: f"B15-{mode}")
def test_the_most_urgent_moves_are_taken(mode):
    spans = [(10 * page, 10 * page) for page in range(20)]
    due = [1000 - 10 * page for page in range(20)]

    window = planned(rows(*spans, due=due), mode, config={"max_ops_per_tier": 8})

    assert [one[0] for one in ops(window)] == [10 * page for page in range(12, 20)]
    assert states(window) == ["limit"] * 12 + ["met"] * 8


@pytest.mark.parametrize(
    ("mode", "evicted"),
    [pytest.param("none", 0, id="D33-none"), pytest.param("bcache", 16, id="D33-bcache")],
)
def test_room_is_not_summed_over_nodes(mode, evicted):
    requests = rows((0, 15), (0, 15))
    requests["node"] = np.array([0, 1])
    heat = table(layer=[0] * 100, page_id=range(100, 200), decay_hits=[0.0] * 100)
    given = CacheTables(requests, heat, tier_caps=caps(4 * MIB))
    settings = KvCacheConfig(min_io_bytes=0, compat=mode)

    window = KvCachePlanner(settings).columns(CacheRequest(NOW_MS * 10**6, 20, tables=given))

    assert len(ops(window)) == 2
    assert len(window.evict.get("row", ())) == evicted
