"""Windows of KV-cache pages, from a trace by the planner to the executor."""

import numpy as np
import pytest

from bb_planner_kvcache.layout import packed
from bb_plans.places import Places
from bb_roles import CacheRequest, CacheTables
from bb_roles.config import build_config
from bb_roles.registry import executor_class, executor_spec, planner_class, planner_spec

KIB = 1024
NOW_MS = 10**6


def planner(**config):
    cls = planner_class(planner_spec("kvcache"))
    return cls(build_config(cls.Config, {"min_io_bytes": 0, **config}, "planner"))


def executor(places):
    cls = executor_class(executor_spec("cpu"))
    return cls(build_config(cls.Config, {}, "executor"), places)


def demands(size, seed):
    rng = np.random.default_rng(seed)
    start = rng.integers(0, 64, size)
    columns = {
        "page_start": start,
        "page_end": start + rng.integers(0, 8, size),
        "page_bytes": rng.choice([4 * KIB, 8 * KIB], size),
        "layer": rng.integers(0, 4, size),
        "tier_src": np.zeros(size, np.int64),
        "tier_dst": np.ones(size, np.int64),
        "deadline_ms": NOW_MS + rng.integers(1, 100, size),
    }
    return packed(CacheTables(columns, names={"node": ("n0",)}))


@pytest.mark.parametrize("seed", [1, 2])
def test_pages_are_where_they_were_asked_for(tmp_path, seed):
    tables, size = demands(150, seed)
    caps = {name: np.array([one]) for name, one in
            {"tier": 1, "bandwidth_caps": 1 << 20, "free_bytes": 1 << 20}.items()}  # fmt: skip
    request = CacheRequest(
        NOW_MS * 10**6, 20, tables=CacheTables(tables.requests, tier_caps=caps, names=tables.names)
    )
    stored = np.random.default_rng(seed).bytes(size)
    (tmp_path / "tier0").write_bytes(stored)
    arena = bytearray(size)
    arenas = {"tier://n0/tier0": tmp_path / "tier0", "tier://n0/tier1": arena}

    plan, window = planner().plan(request), planner().columns(request)
    with Places(arenas=arenas) as places, executor(places) as carrying:
        report = carrying.submit(plan).wait()

    report.check()
    asked = tables.requests
    begin = asked["dst_base"] + asked["page_start"] * asked["page_bytes"]
    end = asked["dst_base"] + (asked["page_end"] + 1) * asked["page_bytes"]
    met = np.flatnonzero(window.state == 0)
    assert 0 < len(met) < 150
    for row in met.tolist():
        assert arena[begin[row] : end[row]] == stored[begin[row] : end[row]]
    assert report.nbytes == sum(op.length for op in plan.ops) <= 1 << 20


def test_a_recorded_trace_is_planned_and_every_request_accounted_for():
    from bb_datasource_trace.tables import synthetic

    request = synthetic(requests=300).request()

    plan, window = planner().plan(request), planner().columns(request)

    rejected = {one.request for one in plan.rejected}
    assert plan.ops
    assert len(rejected) + int((window.state < 2).sum()) == 300
