"""Requests: what each reason stands for, what is dropped and kept, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from bb_ir.plan import Digest, DigestAlgorithm, KvPageRef, Quota, TransferKind, digest_text
from bb_planner_kvcache.config import KvCacheConfig
from bb_planner_kvcache.planner import KvCachePlanner
from bb_roles import CacheRequest, CacheTables, PageDemand, SwapRequest
from bb_roles.config import build_config
from bb_roles.errors import ConfigError, UnplannableRequest

NOW = 10**12
KIB = 1 << 10


def columns(**given):
    return {name: np.array(one) for name, one in given.items()}


def rows(*spans, **more):
    size = len(spans)
    usual = {
        "page_start": [one[0] for one in spans], "page_end": [one[1] for one in spans],
        "page_bytes": [KIB] * size, "tier_src": [0] * size, "tier_dst": [1] * size,
    }  # fmt: skip
    return columns(**usual | more)


def ask(requests, **tables):
    quotas = tables.pop("quotas", ())
    return CacheRequest(NOW, 20, quotas=quotas, tables=CacheTables(requests, **tables))


def planned(requests, config=(), **tables):
    planner = KvCachePlanner(KvCacheConfig(**{"min_io_bytes": 0, **dict(config)}))
    return planner.plan(ask(requests, **tables))


def reasons(plan):
    return {one.request: one.reason for one in plan.rejected}


CAPS = columns(tier=[1], bandwidth_caps=[4 * KIB], free_bytes=[4 * KIB])


@pytest.mark.parametrize(
    ("reason", "requests", "more"),
    [
        ("cold", rows((0, 0), deadline_ms=[10**6 + 3]), {"config": {"umin": 5.0}}),
        ("late", rows((0, 0), deadline_ms=[10**6]), {}),
        ("route", rows((0, 0), tier_dst=[2]), {}),
        ("range", rows((0, 9)), {"config": {"layer_bytes": 9 * KIB}}),
        ("range", rows((0, 9), layer=[1 << 30]), {}),
        ("tenant", rows((0, 0), tenant=[0]), {"config": {"tenant_credits_bytes": 0}}),
        ("partial", rows((0, 3), tenant=[0]), {"config": {"tenant_credits_bytes": 2 * KIB}}),
        ("small", rows((0, 0)), {"config": {"min_io_bytes": 2 * KIB}}),
        ("quota", rows((0, 0)), {"quotas": (Quota(0),)}),
        ("quota", rows((0, 0)), {"quotas": (Quota(0, "0", 1),)}),
        ("partial", rows((0, 5)), {"tier_caps": CAPS}),
    ],
)
def test_each_reason(reason, requests, more):
    plan = planned(requests, **more)

    assert reasons(plan) == {"0": reason}
    assert plan.rejected[0].detail


def test_the_most_urgent_of_those_that_collide_moves():
    requests = rows((0, 3), (2, 5), layer=[0, 1], deadline_ms=[10**6 + 9, 10**6 + 5])

    plan = planned(requests, {"layer_bytes": 1 << 30})
    clash = planned({**requests, "src_base": np.array([0, 0]), "dst_base": np.array([0, 0])})

    assert reasons(plan) == {}
    assert reasons(clash) == {"0": "overlap"}


def test_a_request_of_several_rows_is_rejected_once():
    requests = rows((0, 0), (9, 9), (20, 20), req_id=[1, 1, 0])

    plan = planned(requests, quotas=(Quota(0),), names={"req_id": ("second", "first")})

    assert reasons(plan) == {"first": "quota", "second": "quota"}


def test_urgency_counts_fills_and_priority_comes_first():
    requests = rows(
        (0, 0), (9, 9), (20, 20), deadline_ms=[10**6 + 8, 10**6 + 9, 0], est_fill_ms=[4, 1, 1],
        priority=[0, 0, 1],
    )  # fmt: skip

    plan = planned(requests)

    assert [op.kv_refs[0].page for op in plan.ops] == [20, 0, 9]
    assert [op.priority for op in plan.ops] == [2**32 - 2**31, -2, -9]
    assert [op.deadline_ns for op in plan.ops] == [0, NOW + 8 * 10**6, NOW + 9 * 10**6]


def test_moves_say_everything_that_is_known_of_them():
    model = Digest(DigestAlgorithm.BLAKE3, bytes(range(32)))
    requests = rows(
        (2, 3), (4, 4), layer=[3, 3], head=[1, 1], model=[0, 0], tenant=[0, 0], node=[1, 1],
        src_node=[0, 0], tier_src=[1, 1], tier_dst=[2, 2],
    )  # fmt: skip
    names = {"node": ("a", "b"), "tenant": ("t",), "model": (digest_text(model),)}

    (op,) = planned(requests, {"layer_bytes": 1 << 20}, names=names).ops

    assert (op.kind, op.src, op.dst) == (TransferKind.H2D, "tier://a/tier1", "tier://b/tier2")
    assert op.kv_refs == (KvPageRef("kv", 2, 1, 3, model, "b", 2, 3, KIB),)
    assert op.src_offset == op.dst_offset == 3 * (1 << 20) + 2 * KIB
    assert (op.length, op.tenant, op.fanout, op.overlap) == (3 * KIB, "t", 2, 1)
    assert op.lane == "tier://a/tier1>tier://b/tier2"


def test_slow_moves_are_cut_into_streams():
    requests = rows((0, 0), (10, 12), (20, 25), layer=[0, 0, 1])
    caps = columns(tier=[1], bandwidth_caps=[20 * KIB])  # a page takes 1 ms of 20

    plan = planned(requests, tier_caps=caps, layer_latency=columns(layer=[0], lat_ms=[2.0]))

    assert {op.kv_refs[0].page: op.overlap for op in plan.ops} == {0: 1, 10: 2, 20: 3}


def test_neighbours_of_other_prefixes_stay_apart_unless_they_overlap():
    requests = rows((0, 1), (2, 3), (3, 5), prefix_id=[7, 8, 9])

    def spans(plan):
        return [(op.kv_refs[0].page, op.kv_refs[0].page_count) for op in plan.ops]

    assert spans(planned(requests)) == [(0, 2), (2, 4)]
    assert spans(planned(requests, {"prefix_fanout": False})) == [(0, 6)]


def test_a_run_of_several_tenants_is_on_nobody_alone():
    requests = rows((0, 1), (1, 3), (9, 9), tenant=[0, 1, 1])

    plan = planned(requests, names={"tenant": ("a", "b")})

    assert [op.tenant for op in plan.ops] == ["", "b"]


HELD = columns(
    tier=[1, 1, 1], page_start=[100, 200, 300], page_end=[103, 203, 303], page_bytes=[KIB] * 3
)


def test_the_coldest_pages_make_room():
    heat = columns(layer=[0] * 4, page_id=[100, 101, 102, 103], decay_hits=[5.0, 0.5, 5.0, 5.0])
    caps = columns(tier=[1], bandwidth_caps=[90 * KIB], free_bytes=[2 * KIB])

    plan = planned(rows((0, 4), (201, 201)), heat=heat, tier_caps=caps, held=HELD)

    # Five pages come, two have room, and page 201 is wanted: the least recently used ones without
    # hits go.
    assert [op.length for op in plan.ops] == [5 * KIB]
    assert [(ref.page, ref.page_count, ref.node, ref.tier) for ref in plan.evict] == [
        (200, 1, "0", 1), (202, 2, "0", 1),
    ]  # fmt: skip


def test_no_more_comes_than_can_be_made_room_for():
    caps = columns(tier=[1], bandwidth_caps=[90 * KIB], free_bytes=[2 * KIB])
    held = columns(tier=[1], page_start=[100], page_end=[100], page_bytes=[KIB])

    plan = planned(rows((0, 4)), tier_caps=caps, held=held)
    kept = planned(rows((0, 4)), {"eviction": False}, tier_caps=caps, held=held)

    assert [op.length for op in plan.ops] == [3 * KIB]
    assert [ref.page for ref in plan.evict] == [100]
    assert [op.length for op in kept.ops] == [2 * KIB]
    assert kept.evict == ()


def test_what_is_held_is_not_moved():
    requests = rows((0, 9), (100, 103), (203, 204))
    held = {name: np.append(one, one[:1]) for name, one in HELD.items()}
    held["page_start"][-1], held["page_end"][-1] = 3, 5

    plan = planned(requests, held=held)

    spans = [(ref.page, ref.page_count) for op in plan.ops for ref in op.kv_refs]
    assert sorted(spans) == [(0, 3), (6, 4), (204, 1)]
    assert reasons(plan) == {}


def test_what_is_put_off_is_fetched_when_there_is_time():
    requests = rows((0, 5), (10, 10), (20, 21), deadline_ms=[10**6 + one for one in (5, 9, 7)])

    plan = planned(requests, tier_caps=CAPS)
    fewer = planned(requests, {"max_prefetch": 1}, tier_caps=CAPS)

    assert [(ref.page, ref.page_count) for ref in plan.prefetch] == [(4, 2), (20, 2), (10, 1)]
    assert [ref.page for ref in fewer.prefetch] == [4]
    assert reasons(plan) == {"0": "partial", "1": "quota", "2": "quota"}


def test_caps_of_one_node_come_before_those_of_all():
    requests = rows((0, 1), (0, 1), node=[0, 1])
    caps = columns(tier=[1, 1], node=[1, -1], bandwidth_caps=[0, 90 * KIB])

    assert reasons(planned(requests, tier_caps=caps)) == {"1": "quota"}


def test_nothing_is_asked_for_of_no_node():
    names = {"node": (), "tenant": (), "model": (), "req_id": ()}
    nothing = {name: one[:0] for name, one in rows((0, 0), node=[0], tenant=[0]).items()}

    for requests in ({}, nothing):
        plan = planned(requests, tier_caps=CAPS, names=names)
        assert (plan.ops, plan.rejected, plan.evict) == ((), (), ())


def test_numbers_of_any_width_and_order_are_numbers():
    usual = rows((0, 3), (8, 9), tenant=[0, 1], deadline_ms=[10**6 + 9, 10**6 + 5])
    strange = {
        "page_start": usual["page_start"].astype(">u2"),
        "page_end": np.repeat(usual["page_end"], 2)[::2],
        "deadline_ms": usual["deadline_ms"][::-1].copy()[::-1].astype(">i8"),
    }

    assert planned(usual | strange) == planned(usual)
    assert len(planned(usual).ops) == 2


def test_hits_decide_whether_late_pages_move():
    heat = columns(layer=[0], page_id=[0], decay_hits=[0.4], tenant_weight=[3])

    assert reasons(planned(rows((0, 0), deadline_ms=[1]), heat=heat)) == {"0": "late"}
    assert reasons(planned(rows((0, 0), deadline_ms=[1]), {"beta": 0.5}, heat=heat)) == {}


NOTHING = np.zeros(1, np.int64)


@pytest.mark.parametrize(
    ("requests", "more", "text"),
    [
        (rows((0, 0), pages=[1]), {}, "a column 'pages'"),
        ({"page_start": NOTHING}, {}, "no column 'tier_src'"),
        (rows((3, 2)), {}, "row 0 of `requests` ends at page 2"),
        (rows((-1, 2)), {}, "'page_start' of `requests` is -1"),
        (rows((0, 1), page_bytes=[0]), {}, "'page_bytes' of `requests` is 0"),
        (rows((0, 1), page_bytes=[1.5]), {}, "'page_bytes' of `requests` is of float64"),
        (rows((0, 1), page_bytes=[1, 1]), {}, "has 2 rows, others have 1"),
        ({**rows((0, 1)), "layer": [0]}, {}, "'layer' of `requests` is a list"),
        (rows((0, 1 << 39), page_bytes=[1 << 39]), {}, "asked for have one that begins more than"),
        (
            rows((0, 1)),
            {"held": columns(tier=[1], page_start=[0], page_end=[1 << 39], page_bytes=[1 << 39])},
            "held have one that begins",
        ),
        (rows((0, 1 << 30), (0, 1 << 30), page_bytes=[1 << 30] * 2), {}, "2 EiB together"),
        (rows((0, 1), deadline_ms=[1], deadline_ns=[1]), {}, "deadlines twice"),
        (rows((0, 1), est_fill_ms=[np.nan]), {}, "not finite"),
        (rows((0, 1), est_fill_ms=["a"]), {}, "'est_fill_ms' of `requests` is of"),
        (rows((0, 1), node=[1]), {"names": {"node": ("n",)}}, "'node' of `requests` is 1 in row 0"),
        (rows((0, 1)), {"names": {"node": ("a/b",)}}, "no node can be named 'a/b'"),
        (rows((0, 1)), {"names": {"nodes": ("a",)}}, "`names` has 'nodes'"),
        (rows((0, 1), model=[0]), {"names": {"model": ("x",)}}, "model 0: 'x' is no digest"),
        (rows((0, 1)), {"names": {"node": ()}}, "no column 'node', so it is 0 in each row"),
        (rows((0, 1)), {"names": {"node": 5}}, "`names` of node is 5"),
        (rows((0, 1)), {"names": {"node": "ab"}}, "`names` of node is 'ab'"),
        (rows((0, 1)), {"names": {"node": (5,)}}, "`names` of node has 5"),
        (rows((0, 1)), {"names": {"node": ("a", "b", "a")}}, "`names` of node has 'a' twice"),
        (rows((0, 1)), {"names": {"tenant": ("a", "a")}}, "`names` of tenant has 'a' twice"),
        (rows((0, 0), (2, 2)), {"names": {"req_id": ("a",)}}, "1 texts of req_id for 2 rows"),
        (rows((0, 1), node=[1 << 19], tier_dst=[9999]), {}, "nodes with 10000 tiers each"),
        (rows((0, 1)), {"heat": {"layer": NOTHING}}, "no column 'page_id'"),
        (rows((0, 1)), {"held": rows((2, 1), tier=[1])}, "a column 'tier_src'"),
        (rows((0, 1)), {"quotas": (3,)}, "a quota is 3"),
        (rows((0, 1)), {"quotas": (Quota(-1),)}, "limit of a quota is -1"),
    ],
)
def test_bad_tables_are_refused(requests, more, text):
    with pytest.raises(UnplannableRequest) as caught:
        planned(requests, **more)

    assert text in caught.value.found
    assert caught.value.expected or caught.value.fix


def test_more_held_pages_than_can_be_looked_at_are_refused():
    held = columns(tier=[1], page_start=[0], page_end=[1 << 25], page_bytes=[KIB])

    with pytest.raises(UnplannableRequest, match="33554433 pages are held"):
        planned(rows((0, 0)), tier_caps=CAPS, held=held)


GOOD = PageDemand("a", KvPageRef("kv", 0, page_bytes=1), "tier://n/tier0", "tier://n/tier1")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"request": ""}, "has the id ''"),
        ({"request": "a" * 5000}, "has the id"),
        ({"request": "\ud800"}, "has the id"),
        ({"pages": None}, "pages is None"),
        ({"pages": KvPageRef("kv", 0)}, "page_bytes is 0"),
        ({"pages": KvPageRef("kv", -1, page_bytes=1)}, "pages.page is -1"),
        ({"pages": KvPageRef("kv", 1 << 39, page_bytes=1 << 39)}, "2 EiB"),
        ({"pages": KvPageRef("kv", 0, model=Digest(), page_bytes=1)}, "pages.model is"),
        ({"pages": KvPageRef(3, 0, page_bytes=1)}, "of tensor 3"),
        ({"tenant": None}, "tenant None"),
        ({"src": "x"}, "src is 'x'"),
        ({"dst": None}, "dst is None"),
        ({"deadline_ns": -1}, "deadline_ns is -1"),
        ({"priority": 1 << 40}, "priority is"),
    ],
)
def test_bad_demands_are_refused(change, text):
    request = CacheRequest(NOW, 20, (replace(GOOD, **change),))

    with pytest.raises(UnplannableRequest) as caught:
        KvCachePlanner(KvCacheConfig()).plan(request)

    assert text in caught.value.found


def test_demands_of_more_bytes_than_can_be_counted_are_refused():
    large = KvPageRef("kv", 0, page_count=1 << 20, page_bytes=1 << 40)
    demands = tuple(
        replace(GOOD, request=str(layer), pages=replace(large, layer=layer)) for layer in range(9)
    )
    held = tuple(replace(large, layer=layer, node="n", tier=1) for layer in range(9))
    planner = KvCachePlanner(KvCacheConfig(layer_bytes=1 << 60))

    with pytest.raises(UnplannableRequest, match="asked for have more than 2 EiB together"):
        planner.plan(CacheRequest(NOW, 20, demands, quotas=(Quota((1 << 60) + 1),)))
    with pytest.raises(UnplannableRequest, match="held have more than 2 EiB together"):
        planner.plan(CacheRequest(NOW, 20, (GOOD,), held))


@pytest.mark.parametrize(
    "request_",
    [
        CacheRequest(NOW, 20, [GOOD]),
        CacheRequest(NOW, 20, (3,)),
        CacheRequest(NOW, 20, held=(GOOD,)),
        CacheRequest(NOW, 20, held=(KvPageRef("kv", 0, page_count=-1),)),
        CacheRequest(NOW, 20, quotas=3),
        CacheRequest(NOW, 20, tables={}),
        CacheRequest(NOW, 20, tables=CacheTables({"page_start": 3})),
        CacheRequest(NOW, 20, tables=CacheTables([3])),
        CacheRequest(NOW, 20, tables=CacheTables({}, names=3)),
        CacheRequest(NOW, True),
        CacheRequest(1.5, 20),
        SwapRequest(None),
    ],
)
def test_what_is_no_request_is_refused(request_):
    with pytest.raises(UnplannableRequest):
        KvCachePlanner(KvCacheConfig()).plan(request_)


def test_limits_of_the_configuration():
    with pytest.raises(ConfigError, match="max_ops_per_tier is 0"):
        KvCacheConfig(max_ops_per_tier=0)
    with pytest.raises(ConfigError, match="compat"):
        build_config(KvCacheConfig, {"compat": "bcach"}, "planner")
    assert build_config(KvCacheConfig, {"pmin": 2}, "planner").pmin == 2


def test_tables_can_be_compared_and_listed():
    tables = CacheTables(rows((2, 3), tenant=[0]), names={"tenant": ("t",)})
    same = CacheTables(rows((2, 3), tenant=[0]), names={"tenant": ("t",)})

    assert tables == same
    assert tables != CacheTables(rows((2, 4), tenant=[0]), names={"tenant": ("t",)})
    assert tables != CacheTables(rows((2, 3), tenant=[0]))
    assert tables != CacheTables(rows((2, 3), tenant=[0], layer=[0]), names={"tenant": ("t",)})
    assert tables != 3
    assert [*tables.demands()] == [
        PageDemand(
            "0", KvPageRef("kv", 2, page_count=2, page_bytes=KIB), "tier://0/tier0",
            "tier://0/tier1", tenant="t",
        ),
    ]  # fmt: skip
