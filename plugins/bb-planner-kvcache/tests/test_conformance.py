import numpy as np

from bb_ir.plan import KvPageRef, Quota
from bb_planner_kvcache.config import KvCacheConfig
from bb_planner_kvcache.planner import KvCachePlanner
from bb_roles import CacheRequest, CacheTables, PageDemand
from bb_testing import PlannerSuite

NOW = 10**12
MIB = 1 << 20


def demand(request, page, count=1, *, due=0, tenant="", priority=0, dst="tier://n0/tier1"):
    pages = KvPageRef("kv", page, page_count=count, page_bytes=MIB)
    return PageDemand(request, pages, "tier://n0/tier0", dst, due, tenant, priority)


def tables(**more):
    columns = {
        "req_id": [0, 0, 1, 2, 3, 4],
        "page_start": [0, 0, 4, 2, 90, 200],
        "page_end": [3, 3, 5, 6, 99, 260],
        "layer": [0, 1, 0, 0, 1, 1],
        "tier_src": [0, 0, 0, 0, 0, 0],
        "tier_dst": [1, 1, 1, 1, 1, 1],
        "page_bytes": [MIB] * 6,
        "deadline_ms": [10**6 + one for one in (50, 50, 20, 70, -5, 90)],
        "tenant": [0, 0, 1, 1, 0, 0],
    }
    heat = {"layer": [0, 1], "page_id": [0, 0], "decay_hits": [12, 3]}
    caps = {"tier": [1], "bandwidth_caps": [24 * MIB], "free_bytes": [4 * MIB]}
    held = {"tier": [1, 1], "page_start": [2, 300], "page_end": [2, 320], "page_bytes": [MIB] * 2}
    return CacheTables(
        *({name: np.array(one) for name, one in table.items()} for table in (columns, heat, caps)),
        held={name: np.array(one) for name, one in held.items()},
        names={"node": ("n0",), "tenant": ("a", "b")},
        **more,
    )


class TestConformance(PlannerSuite):
    def make(self):
        return KvCachePlanner(KvCacheConfig(tenant_credits_bytes=16 * MIB))

    def requests(self):
        """Requests that it makes plans for."""
        demands = (
            demand("a", 0, 4, due=NOW + 10**9, tenant="t"),
            demand("b", 2, 6),
            demand("c", 40, 30, priority=1),
            demand("d", 80, 2, due=NOW - 1),
            demand("e", 100, 2, dst="tier://n0/tier2"),
            demand("f", 10, 1),
        )
        held = (KvPageRef("kv", 10, page_count=3), KvPageRef("kv", 3, page_bytes=MIB))
        quotas = Quota(12 * MIB, tier=1), Quota(2 * MIB, "n0", tenant="t")
        return [
            CacheRequest(NOW, 20, demands, held, quotas),
            CacheRequest(NOW, 40, tables=tables()),
            CacheRequest(NOW, 50, tables=tables(), quotas=(Quota(3 * MIB, tenant="b"),)),
            CacheRequest(NOW, 30),
        ]

    def refused(self):
        """Requests that it does not."""
        return [
            CacheRequest(NOW, 0),
            CacheRequest(-1, 20),
            CacheRequest(NOW, 20, (demand("a", 0), demand("a", 1))),
            CacheRequest(NOW, 20, (demand("a", 0, dst="nowhere"),)),
            CacheRequest(NOW, 20, (demand("a", 0),), tables=tables()),
            CacheRequest(NOW, 20, tables=CacheTables({"page": np.arange(3)})),
        ]
