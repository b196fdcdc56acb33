"""Whatever is asked for: nothing is lost, nothing moves twice, and no limit is exceeded."""

import importlib.util
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bb_ir.plan import Quota, from_json, to_json, validate
from bb_planner_kvcache._states import HELD, MET, PARTIAL
from bb_planner_kvcache.config import KvCacheConfig
from bb_planner_kvcache.planner import KvCachePlanner
from bb_planner_kvcache.window import REASONS
from bb_roles import CacheRequest, CacheTables


def load(name):
    """Import a module that stands beside this file; tests are in no package."""
    path = Path(__file__).parent / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"kvcache_{name}", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


oracle = load("oracle")
rows_of = oracle.rows_of

NOW_MS = 10**6
UNIT = 1024
NODES, TIERS, TENANTS = 2, 3, 2
NAMES = {"node": ("n0", "n1"), "tenant": ("a", "b")}


def table(names, rows):
    return {name: np.array([row[at] for row in rows], np.int64) for at, name in enumerate(names)}


@st.composite
def requests(draw):
    small = st.integers(0, 3)
    rows = draw(st.lists(st.tuples(
        st.integers(0, NODES - 1), st.integers(0, 1), st.integers(0, 12), st.integers(0, 5),
        st.sampled_from([0, 0, 2, 1]), st.sampled_from([1, 1, 0, 2]), st.sampled_from([1, 1, 1, 2]),
        st.sampled_from([0, -1, 5, 9, 30]), st.integers(-1, TENANTS - 1), small, small,
    ), max_size=25))  # fmt: skip
    asked = table(
        ("node", "layer", "page_start", "page_end", "tier_src", "tier_dst", "page_bytes",
         "deadline_ms", "tenant", "prefix_id", "priority"), rows,
    )  # fmt: skip
    asked["page_end"] += asked["page_start"]
    asked["page_bytes"] *= UNIT
    due = asked["deadline_ms"]
    asked["deadline_ms"] = np.where(due == 0, 0, NOW_MS + due)
    held = table(("node", "tier", "layer", "page_start", "page_end", "page_bytes"), draw(
        st.lists(st.tuples(st.integers(0, NODES - 1), st.integers(0, TIERS - 1), st.integers(0, 1),
                           st.integers(0, 15), small, st.just(UNIT)), max_size=5)))  # fmt: skip
    held["page_end"] += held["page_start"]
    few = st.sampled_from([1, 2, 4, 8, 40, 0])
    caps = table(("tier", "bandwidth_caps", "free_bytes"), draw(
        st.lists(st.tuples(st.integers(0, TIERS - 1), few, few),
                 max_size=3, unique_by=lambda row: row[0])))  # fmt: skip
    for name in ("bandwidth_caps", "free_bytes"):
        caps[name] *= UNIT
    shares = table(("tenant", "tier", "bandwidth_caps"), draw(
        st.lists(st.tuples(st.integers(0, TENANTS - 1), st.integers(0, TIERS - 1),
                           st.integers(0, 12)), max_size=4,
                 unique_by=lambda row: row[:2])))  # fmt: skip
    shares["bandwidth_caps"] *= UNIT
    heat = table(("layer", "page_id", "decay_hits"), draw(
        st.lists(st.tuples(st.integers(0, 1), st.integers(0, 18), st.integers(0, 12)),
                 max_size=10)))  # fmt: skip
    tables = CacheTables(asked, heat, caps, shares, held=held, names=NAMES)
    quotas = draw(st.lists(st.builds(
        Quota, st.integers(0, 30).map(UNIT.__mul__), st.sampled_from(["", "n0", "n9"]),
        st.integers(-1, TIERS - 1), st.sampled_from(["", "a", "z"]),
    ), max_size=2))  # fmt: skip
    return CacheRequest(NOW_MS * 10**6, 20, quotas=tuple(quotas), tables=tables)


configs = st.builds(
    KvCacheConfig, pmin=st.sampled_from([-1.0, 1.0]), min_io_bytes=st.sampled_from([0, 3 * UNIT]),
    max_ops_per_tier=st.integers(1, 6), prefix_fanout=st.booleans(), eviction=st.booleans(),
    layer_bytes=st.sampled_from([16 * UNIT, 1 << 30]), enforce_tier_caps=st.booleans(),
    tenant_credits=st.booleans(), max_prefetch=st.integers(0, 3),
)  # fmt: skip


def pages(node, tier, row, first, last):
    key = node, tier, row["layer"], row["page_bytes"]
    return {(*key, page) for page in range(first, last + 1)}


def asked_pages(request):
    return [
        pages(row["node"], row["tier_dst"], row, row["page_start"], row["page_end"])
        for row in rows_of(request.tables.requests)
    ]


def held_pages(request):
    found = set()
    for row in rows_of(request.tables.held):
        found |= pages(row["node"], row["tier"], row, row["page_start"], row["page_end"])
    return found


def moved_pages(window):
    return [
        pages(op["node"], op["tier_dst"], op, op["start_pid"], op["end_pid"])
        for op in rows_of(window.ops)
    ]


@settings(max_examples=150)
@given(requests(), configs)
def test_every_row_has_one_fate_and_it_is_true(request, config):
    window = KvCachePlanner(config).columns(request)

    held, moves = held_pages(request), moved_pages(window)
    moved = {page for move in moves for page in move}
    whole = rows_of(request.tables.requests)
    for row, wanted, state in zip(whole, asked_pages(request), window.state, strict=True):
        if state == MET:
            assert wanted <= moved | held
        elif state == HELD:
            assert wanted <= held or row["tier_src"] == row["tier_dst"]
        elif state == PARTIAL:
            assert not wanted <= moved | held
            assert wanted & moved
        else:
            assert 0 < state < len(REASONS)
    assert sum(map(len, moves)) == len(moved), "a page moves twice"
    assert not moved & held, "what is there moves again"
    looked_at = [
        one
        for one, state in zip(asked_pages(request), window.state, strict=True)
        if state in (MET, PARTIAL)
    ]
    assert moved <= set().union(*looked_at), "something moves that nobody is served by"


@settings(max_examples=150)
@given(requests(), configs)
def test_no_limit_is_exceeded(request, config):
    window = KvCachePlanner(config).columns(request)

    moved, dropped, count, by_tenant = Counter(), Counter(), Counter(), Counter()
    for op in rows_of(window.ops):
        place = op["node"], op["tier_dst"]
        moved[place] += op["bytes"]
        count[place] += 1
        by_tenant[(*place, op["tenant"])] += op["bytes"]
    wanted = set().union(*asked_pages(request))
    held = held_pages(request)
    for one in rows_of(window.evict):
        node, tier = divmod(one["place"], max(_tiers(request)) + 1)
        gone = pages(node, tier, one, one["page_start"], one["page_end"])
        assert gone <= held - wanted, "what somebody wants is dropped"
        dropped[node, tier] += len(gone) * one["page_bytes"]
    assert all(number <= config.max_ops_per_tier for number in count.values())
    for cap in rows_of(request.tables.tier_caps):
        for node in range(NODES):
            place = node, cap["tier"]
            if config.enforce_tier_caps:
                assert moved[place] <= cap["bandwidth_caps"]
                assert moved[place] <= cap["free_bytes"] + dropped[place]
            lacking = max(0, moved[place] - cap["free_bytes"])
            assert dropped[place] < lacking + UNIT, "more is dropped than must be"
    for cap in rows_of(request.tables.tenant_caps) if config.tenant_credits else ():
        for node in range(NODES):
            assert by_tenant[node, cap["tier"], cap["tenant"]] <= cap["bandwidth_caps"]


def _tiers(request):
    tables = request.tables
    columns = (tables.requests["tier_src"], tables.requests["tier_dst"], tables.held["tier"],
               tables.tier_caps["tier"])  # fmt: skip
    return [0, *(one for column in columns for one in column.tolist())]


@settings(max_examples=300)
@given(requests(), configs)
def test_it_is_what_an_oracle_plans_row_by_row(request, config):
    window = KvCachePlanner(config).columns(request)

    wanted = oracle.Oracle(request, config, NAMES)

    assert [REASONS[state] for state in window.state] == wanted.states
    told = ("node", "tier_src", "tier_dst", "layer", "page_bytes", "start_pid", "end_pid", "bytes",
            "fanout", "rank", "deadline_ms", "tenant", "row")  # fmt: skip
    ops = rows_of(window.ops)
    assert [tuple(op[name] for name in told) for op in ops] == wanted.ops
    later = ("layer", "page_start", "page_end", "page_bytes")
    assert [tuple(one[name] for name in later) for one in rows_of(window.prefetch)] == (
        wanted.prefetch
    )
    width = max(_tiers(request)) + 1
    gone = {
        (divmod(one["place"], width), one["layer"], one["page_bytes"], page)
        for one in rows_of(window.evict)
        for page in range(one["page_start"], one["page_end"] + 1)
    }
    assert gone == wanted.evict


@settings(max_examples=80)
@given(requests(), configs)
def test_plans_are_sound_and_say_the_same_as_columns(request, config):
    planner = KvCachePlanner(config)
    window, plan = planner.columns(request), planner.plan(request)

    errors = [one for one in validate(plan, quotas=request.quotas) if not one.warning]

    assert errors == []
    assert from_json(type(plan), to_json(plan)) == plan
    assert [op.length for op in plan.ops] == window.ops["bytes"].tolist()
    assert sum(op.fanout for op in plan.ops) == window.ops["fanout"].sum()
    told = {one.request: one.reason for one in plan.rejected}
    assert told == {
        str(row): REASONS[state] for row, state in enumerate(window.state) if state > HELD
    }
    assert [ref.page_count for ref in plan.evict] == [
        one["page_end"] - one["page_start"] + 1 for one in rows_of(window.evict)
    ]


@settings(max_examples=50)
@given(requests(), configs)
def test_one_by_one_the_plan_is_the_same(request, config):
    """What both forms can say leads to the same moves."""
    fewer = CacheTables(request.tables.requests, held=request.tables.held, names=NAMES)
    fewer.requests["est_fill_ms"] = np.ones(len(fewer.requests["node"]))
    del fewer.requests["prefix_id"]
    columns = CacheRequest(NOW_MS * 10**6, 20, quotas=request.quotas, tables=fewer)
    single = CacheRequest(
        NOW_MS * 10**6, 20, tuple(fewer.demands()), tuple(fewer.held_pages()), request.quotas
    )
    planner = KvCachePlanner(config)

    assert planner.plan(single) == planner.plan(columns)
