"""The reduction to a planner's tables, beside a slow one that is written to be read."""

import tempfile
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bb_datasource_trace.accesses import Accesses
from bb_datasource_trace.cache import CacheReduction, Tenant, Tier
from bb_datasource_trace.tables import tables
from bb_datasource_trace.traces import SCHEMA, write_trace
from bb_roles.data import DataError
from bb_roles.errors import ConfigError

MS = 1_000_000
A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def row(ts_ms, hashes, **fields):
    return {
        "ts_ns": ts_ms * MS, "node": "n0", "tenant": "t", "model": A, "session": "",
        "in_tokens": 0, "out_tokens": 0, "block_hashes": list(hashes), "slo_ns": 0, **fields,
    }  # fmt: skip


def reduce(rows, reduction=None, **parameters):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.parquet")
        write_trace(pl.DataFrame(rows, schema=SCHEMA), path)
        return tables(path, reduction, **parameters)


def listed(columns, *names):
    return list(zip(*(columns[name].tolist() for name in names or columns), strict=True))


def runs(found):
    return listed(found["requests"], "req_id", "layer", "page_start", "page_end")


# Which pages are asked for.


def test_leading_blocks_that_came_before_are_asked_for_in_each_layer():
    found = reduce([row(0, [10, 11, 12]), row(100, [10, 11, 13, 12])], layers=2)

    assert runs(found) == [(1, 0, 0, 1), (1, 1, 0, 1)]


def test_first_request_and_one_without_blocks_ask_for_nothing():
    found = reduce([row(0, [10, 11]), row(1, [])])

    assert runs(found) == []


def test_all_blocks_are_asked_for_where_the_cache_is_said_to_be_whole():
    found = reduce([row(0, [10, 11]), row(1, [])], fetch="all", layers=1)

    assert runs(found) == [(0, 0, 0, 1)]


def test_pages_that_do_not_follow_each_other_are_runs_of_their_own():
    first, second = row(0, [1, 2]), row(0, [1, 9])

    found = reduce([first, second, row(100, [1, 9, 2])], layers=1)

    assert runs(found) == [(2, 0, 0, 0), (2, 0, 2, 2), (2, 0, 1, 1)]


def test_a_page_is_a_block_of_a_model_on_all_nodes():
    rows = [row(0, [1]), row(0, [1], model=B), row(50, [1], node="n1"), row(50, [1], model=B)]

    found = reduce(rows, layers=1)

    columns = ("req_id", "node", "model", "model_id", "page_start", "page_end")
    assert listed(found["requests"], *columns) == [(2, 1, 0, 0, 0, 0), (3, 0, 1, 1, 1, 1)]
    assert found.names == {"node": ("n0", "n1"), "tenant": ("t",), "model": (A, B)}


def test_what_came_in_the_window_is_pending_up_to_its_end():
    rows = [row(at, [1]) for at in (0, 80, 81, 100, 101)]

    found = reduce(rows, now_ns=100 * MS, window_ms=20, layers=1)

    assert found["requests"]["req_id"].tolist() == [2, 3]
    assert found.record.parameters["now_ns"] == 100 * MS


def test_now_is_the_last_request_unless_it_is_told():
    found = reduce([row(0, [1]), row(77, [1])])

    assert found.record.parameters["now_ns"] == 77 * MS


def test_what_comes_later_is_not_known_yet():
    early = [row(0, [5]), row(10, [5])]

    now = reduce(early, now_ns=10 * MS)
    later = reduce([*early, row(11, [4, 5], node="a", tenant="a", model=B)], now_ns=10 * MS)

    assert now.record.digests == later.record.digests


def test_deadline_is_the_arrival_and_the_promise():
    rows = [row(0, [1]), row(10, [1], slo_ns=30 * MS), row(10, [1])]

    found = reduce(rows, slo_ms=500, layers=1)

    assert found["requests"]["deadline_ms"].tolist() == [40, 510]


def test_a_deadline_is_never_the_zero_that_means_none():
    found = reduce([row(0, [1], slo_ns=5)], fetch="all", layers=1)

    assert found["requests"]["deadline_ms"].tolist() == [1]


def test_filling_takes_as_long_as_the_slower_tier_needs():
    tiers = (Tier(0, 10_000, 0), Tier(1, 4000, 0), Tier(2, 1, 0))

    found = reduce(
        [row(0, [1, 2, 3])], fetch="all", layers=1, page_bytes=1001, tiers=tiers, window_ms=500
    )

    assert found["requests"]["est_fill_ms"].tolist() == [751]  # 3003 bytes, rounded up
    assert listed(found["tier_caps"]) == [(0, 5000, 0), (1, 2000, 0), (2, 0, 0)]


def test_requests_with_the_same_beginning_have_one_prefix():
    rows = [row(0, [1, 2]), row(0, [1, 3]), row(0, [4]), row(50, [1, 2]), row(50, [1, 3])]

    one = reduce([*rows, row(50, [4])], layers=1)
    two = reduce([*rows, row(50, [4])], layers=1, prefix_blocks=2)

    assert one["requests"]["prefix_id"].tolist() == [0, 0, 0, 3]
    assert two["requests"]["prefix_id"].tolist() == [1, 2, 2, 3]
    assert one["requests"]["req_id"].tolist() == [3, 4, 4, 5]


# Heat.


def test_a_hit_counts_half_after_the_half_life_and_a_quarter_after_twice_that():
    rows = [row(0, [1] * 8), row(100, [2] * 8), row(200, [3] * 8), row(250, [4] * 8)]

    found = reduce(rows, now_ns=300 * MS, half_life_ms=100, layers=1)

    # 8 hits of 1/8, 1/4, 1/2 and 3/4 each
    assert listed(found["heat"], "page_id", "decay_hits") == [(0, 1), (1, 2), (2, 4), (3, 6)]


def test_hits_are_summed_before_they_are_rounded():
    rows = [row(0, [1]), row(0, [1]), row(0, [2])]

    found = reduce(rows, now_ns=200 * MS, half_life_ms=100, layers=1)

    assert listed(found["heat"], "page_id", "decay_hits") == [(0, 1)]  # 2/4, and 1/4 is nothing


def test_old_hits_count_nothing():
    found = reduce([row(0, [1]), row(1, [1]), row(2, [2])], now_ns=11 * MS, horizon_ms=10)

    assert set(found["heat"]["page_id"].tolist()) == {1}


def test_hits_that_are_very_old_do_no_harm():
    found = reduce(
        [row(0, [1] * 1000), row(90_000_000, [2])], half_life_ms=1, horizon_ms=100_000_000
    )

    assert set(found["heat"]["page_id"].tolist()) == {1}


def test_a_page_has_the_largest_weight_of_the_tenants_that_used_it():
    rows = [row(0, [1, 2], tenant="a"), row(0, [1], tenant="b"), row(0, [3], tenant="c")]
    agreed = (Tenant("a", 100, weight=2), Tenant("b", 50, weight=7), Tenant("z", 1, weight=99))

    found = reduce(rows, tenants=agreed, tenant_window_bytes=9, layers=1, page_bytes=11)

    columns = ("page_id", "tenant_weight", "size_bytes")
    assert listed(found["heat"], *columns) == [(0, 7, 11), (1, 2, 11), (2, 1, 11)]
    caps = listed(found["tenant_caps"])
    assert caps == [(t, tier, cap) for t, cap in enumerate((100, 50, 9)) for tier in range(3)]
    assert found.names["tenant"] == ("a", "b", "c")


def test_layers_take_their_time():
    assert listed(reduce([], layers=2, layer_ms=7)["layer_latency"]) == [(0, 7), (1, 7)]


def test_empty_trace_gives_empty_tables_of_all_columns():
    found = reduce([])

    full = reduce([row(0, [1])], fetch="all")
    for name in ("requests", "heat", "tenant_caps"):
        assert {len(column) for column in found[name].values()} == {0}
        assert found[name].keys() == full[name].keys()
    assert found.names == {"node": (), "tenant": (), "model": ()}


def test_all_columns_are_read_only_int64():
    found = reduce([row(0, [1])], fetch="all")

    assert list(found.tables) == [
        "requests", "heat", "tier_caps", "tenant_caps", "layer_latency",
    ]  # fmt: skip
    for columns in found.tables.values():
        for column in columns.values():
            assert column.dtype == np.int64
            assert not column.flags.writeable


# Beside a slow reduction.

HASHES = st.lists(st.integers(0, 7), max_size=6)
ROWS = st.lists(
    st.builds(
        row,
        st.integers(0, 300),
        HASHES,
        node=st.sampled_from(["x", "y"]),
        tenant=st.sampled_from(["a", "b"]),
        model=st.sampled_from([A, B]),
        slo_ns=st.sampled_from([0, 5 * MS]),
    ),
    max_size=12,
).map(lambda rows: sorted(rows, key=lambda one: one["ts_ns"]))


def slow(rows, now_ms, *, window_ms, horizon_ms, half_life_ms, fetch, prefix_blocks):
    """Return rows of `requests` and of `heat` for one layer."""
    rows = [one for one in rows if one["ts_ns"] <= now_ms * MS]
    models = sorted({one["model"] for one in rows})
    nodes = sorted({one["node"] for one in rows})
    pages, asked, heat = {}, [], Counter()
    for number, one in enumerate(rows):
        age = now_ms - one["ts_ns"] // MS
        keys = [(one["model"], block) for block in one["block_hashes"]]
        known = next((i for i, key in enumerate(keys) if key not in pages), len(keys))
        for key in keys:
            pages.setdefault(key, len(pages))
            if age < horizon_ms:
                halvings, rest = divmod(age, half_life_ms)
                weight = (65536 - rest * 32768 // half_life_ms) >> halvings
                heat[pages[key]] += Fraction(weight, 65536)
        wanted = [pages[key] for key in (keys if fetch == "all" else keys[:known])]
        if age >= window_ms or not wanted:
            continue
        prefix = wanted[:prefix_blocks][-1]
        found = []
        for page in wanted:
            if found and page == found[-1][1] + 1:
                found[-1][1] = page
            else:
                found.append([page, page])
        due = (one["ts_ns"] + (one["slo_ns"] or 1000 * MS)) // MS
        place = (nodes.index(one["node"]), models.index(one["model"]), prefix)
        asked += [(number, *place, first, last, due) for first, last in found]
    warm = {page: int(hits + Fraction(1, 2)) for page, hits in heat.items()}
    return asked, sorted((page, hits) for page, hits in warm.items() if hits)


@settings(deadline=None, max_examples=60)  # files are written
@given(
    rows=ROWS,
    now_ms=st.integers(0, 320),
    window_ms=st.sampled_from([1, 50, 1000]),
    horizon_ms=st.sampled_from([30, 1000]),
    half_life_ms=st.sampled_from([1, 7, 100]),
    fetch=st.sampled_from(["seen", "all"]),
    prefix_blocks=st.integers(1, 3),
)
def test_tables_are_those_of_a_slow_reduction(rows, now_ms, **parameters):
    found = reduce(rows, now_ns=now_ms * MS, layers=1, **parameters)
    again = reduce(rows, now_ns=now_ms * MS, layers=3, **parameters)

    asked, warm = slow(rows, now_ms, **parameters)
    columns = (
        "req_id", "node", "model", "prefix_id", "page_start", "page_end", "deadline_ms",
    )  # fmt: skip
    assert listed(found["requests"], *columns) == asked
    assert listed(found["heat"], "page_id", "decay_hits") == warm
    assert sorted(listed(again["requests"], *columns)) == sorted(asked * 3)
    assert listed(again["heat"], "layer", "page_id", "decay_hits") == [
        (layer, *one) for layer in range(3) for one in warm
    ]


def test_accesses_are_all_pages_in_order_with_the_same_numbers():
    rows = [row(0, [5, 6], node="b"), row(1, []), row(2, [5, 7], model=B), row(3, [5, 7, 5])]

    found = reduce(rows, Accesses())
    early = reduce(rows, Accesses(now_ns=2 * MS))

    assert listed(found["accesses"]) == [
        (0, 0, 0, 0, 0, 0), (0, 0, 0, 0, 1, 1),
        (2, 2 * MS, 1, 1, 0, 2), (2, 2 * MS, 1, 1, 1, 3),
        (3, 3 * MS, 1, 0, 0, 0), (3, 3 * MS, 1, 0, 1, 4), (3, 3 * MS, 1, 0, 2, 0),
    ]  # fmt: skip
    assert list(found["accesses"]) == ["req_id", "ts_ns", "node", "model", "position", "page_id"]
    assert early["accesses"]["page_id"].tolist() == [0, 1, 2, 3]
    assert found.names == {"node": ("b", "n0"), "model": (A, B)}


@settings(deadline=None, max_examples=30)  # files are written
@given(rows=ROWS)
def test_accesses_agree_with_what_is_asked_for(rows):
    pages = reduce(rows, Accesses())["accesses"]
    asked = reduce(rows, fetch="all", window_ms=1000, layers=1)["requests"]

    spread = Counter()
    for request, first, last in listed(asked, "req_id", "page_start", "page_end"):
        spread.update((request, page) for page in range(first, last + 1))
    assert spread == Counter(listed(pages, "req_id", "page_id"))


# What is refused.


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"window_ms": 0}, "window_ms is 0"),
        ({"half_life_ms": 0}, "half_life_ms is 0"),
        ({"layers": 0}, "layers is 0"),
        ({"page_bytes": 0}, "page_bytes is 0"),
        ({"now_ns": -1}, "now_ns is -1"),
        ({"fetch": "some"}, "'some'"),
        ({"tier_src": 1}, "both 1"),
        ({"tier_dst": 7}, "tier_dst is 7"),
        ({"tiers": (Tier(0, 1, 1), Tier(0, 1, 1))}, "tiers has 0 twice"),
        ({"tenants": (Tenant("a"), Tenant("a"))}, "tenants has 'a' twice"),
        ({"widnow_ms": 3}, "widnow_ms"),
    ],
)
def test_parameters_that_cannot_be_are_refused(wrong, found):
    with pytest.raises((DataError, ConfigError), match=found):
        reduce([], **wrong)


@pytest.mark.parametrize(
    "make", [lambda: Tier(-1, 1, 1), lambda: Tier(0, 0, 1), lambda: Tenant("a", -1)]
)
def test_tiers_and_tenants_that_cannot_be_are_refused(make):
    with pytest.raises(ConfigError):
        make()


def test_wrong_choice_is_refused_without_a_mapping_too():
    with pytest.raises(ConfigError, match="fetch is 'some'"):
        CacheReduction(fetch="some")
