"""The suite of planners passes on one that works, and fails where one is broken in one way."""

import contextlib
import importlib.util
import inspect
import os
import random
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bb_ir.plan import (
    CachePlan,
    Digest,
    DigestAlgorithm,
    FileChunk,
    KvPageRef,
    Quota,
    Rejected,
    SwapPlan,
    TransferKind,
    TransferOp,
    WeightManifest,
    changes,
)
from bb_roles import CacheRequest, CacheTables, PageDemand, Planner, SwapRequest
from bb_roles.errors import UnplannableRequest
from bb_testing import PlannerSuite

NOW = 10**9


class Pages(Planner):
    """Moves what was asked for in its order, until a quota is used up."""

    def __init__(self):
        super().__init__(None)

    def plan(self, request):
        if not isinstance(request, CacheRequest) or not request.window_ms:
            raise UnplannableRequest(f"{request!r} has no window", expected="a CacheRequest")
        held = {ref.page for ref in request.held}
        ops, rejected, room = [], [], sum(quota.limit for quota in request.quotas)
        for demand in request.demands:
            op = self.op(demand)
            if demand.pages.page in held:
                continue
            if op.length > room:
                rejected.append(Rejected(demand.request, "quota"))
                continue
            room -= op.length
            ops.append(op)
        return CachePlan(
            "pages", tuple(ops), window_ms=request.window_ms, now_ns=request.now_ns,
            rejected=tuple(rejected),
        )  # fmt: skip

    def op(self, demand):
        at = demand.pages.page * demand.pages.page_bytes
        return TransferOp(
            TransferKind.STORAGE2H, demand.src, demand.dst, demand.pages.page_bytes,
            src_offset=at, dst_offset=at, kv_refs=(demand.pages,), tenant=demand.tenant,
        )  # fmt: skip


class Weights(Planner):
    """Reads every new chunk into memory."""

    def __init__(self):
        super().__init__(None)

    def plan(self, request):
        if not isinstance(request, SwapRequest) or not isinstance(request.to, WeightManifest):
            raise UnplannableRequest("it is not about weights", expected="a SwapRequest")
        if any(chunk.digest is None for chunk in request.to.files):
            raise UnplannableRequest("a chunk has no digest", fix="add it")
        adds, shared, deletes = changes(request.from_ or WeightManifest(), request.to)
        return SwapPlan(
            "weights", request.from_, request.to, tuple(map(self.op, adds)), request.window,
            deletes, adds, shared, request.commit_group,
        )  # fmt: skip

    def op(self, chunk):
        return TransferOp(
            TransferKind.STORAGE2H, f"file://{chunk.path}", f"mem://{chunk.path}", chunk.length,
            digest=chunk.digest,
        )  # fmt: skip


def demand(request, page):
    pages = KvPageRef("kv", page, page_bytes=4096)
    return PageDemand(request, pages, "tier://n/tier0", "tier://n/tier1", tenant="t")


def manifest(version, *names):
    files = [
        FileChunk(name, 0, 5, digest=Digest(DigestAlgorithm.SHA256, name.encode() * 32))
        for name in names
    ]
    return WeightManifest("m", version, tuple(files))


class TestPages(PlannerSuite):
    planner = Pages

    def make(self):
        return self.planner()

    def requests(self):
        demands = tuple(demand(f"r{page}", page) for page in range(4))
        held = (KvPageRef("kv", 3, page_bytes=4096),)
        return [
            CacheRequest(NOW, 20, demands, held, (Quota(8192),)),
            CacheRequest(NOW + 1, 20, demands, held, (Quota(16384),)),
        ]

    def refused(self):
        return [CacheRequest(NOW, 0, (demand("r", 1),))]


class TestWeights(PlannerSuite):
    planner = Weights

    def make(self):
        return self.planner()

    def requests(self):
        first = manifest("1", "a", "b")
        return [
            SwapRequest(first),
            SwapRequest(manifest("2", "b", "c", "d"), first, commit_group="all"),
        ]

    def refused(self):
        return [SwapRequest(WeightManifest(files=(FileChunk("a"),)))]


class Columns(Pages):
    """Takes demands that come as columns, too."""

    def plan(self, request):
        tables = getattr(request, "tables", None)
        if tables is None:
            return super().plan(request)
        demands, held = tuple(tables.demands()), tuple(tables.held_pages())
        return super().plan(replace(request, demands=demands, held=held, tables=None))


class TestColumns(PlannerSuite):
    planner = Columns

    def make(self):
        return self.planner()

    def requests(self):
        pages, ones = np.arange(4), np.ones(4, np.int64)
        columns = {
            "page_start": pages, "page_end": pages, "page_bytes": 4096 * ones,
            "tier_src": 0 * ones, "tier_dst": ones,
        }  # fmt: skip
        held = {name: columns[name][3:] for name in ("page_start", "page_end", "page_bytes")}
        tables = CacheTables(columns, held=held | {"tier": ones[3:]}, names={"node": ("n",)})
        return [
            CacheRequest(NOW, 20, quotas=(Quota(4096 * pages),), tables=tables) for pages in (2, 3)
        ]

    def refused(self):
        return [CacheRequest(NOW, 0)]


# Each of these is broken in one way.


class Singleton(Pages):
    made = None

    def __new__(cls):
        cls.made = cls.made or super().__new__(cls)
        return cls.made


class Indifferent(Pages):
    def plan(self, request):
        super().plan(request)
        return CachePlan(window_ms=20, now_ns=NOW)


class Confused(Weights):
    def plan(self, request):
        super().plan(request)
        return CachePlan(request.to.version)


class Elsewhere(Weights):
    """It forgets what there was."""

    def plan(self, request):
        return replace(super().plan(request), from_=WeightManifest(), deletes=())


class Lonely(Weights):
    """It forgets who flips together."""

    def plan(self, request):
        return replace(super().plan(request), commit_group="")


class Timeless(Pages):
    def plan(self, request):
        return replace(super().plan(request), window_ms=7)


class Overdrawn(Pages):
    def plan(self, request):
        return super().plan(replace(request, quotas=(Quota(1 << 20),)))


class Unwritable(Pages):
    def plan(self, request):
        made = super().plan(request)
        return replace(made, ops=list(made.ops))


class Unsound(Weights):
    def op(self, chunk):
        return replace(super().op(chunk), digest=None)


class Forgetful(Pages):
    def plan(self, request):
        return replace(super().plan(request), rejected=())


class Blind(Columns):
    """It overlooks a row of a table."""

    def plan(self, request):
        made = super().plan(request)
        return replace(made, ops=made.ops[1:])


class Inventive(Pages):
    def plan(self, request):
        made = super().plan(request)
        return replace(made, rejected=(*made.rejected, Rejected("nobody", "quota")))


class Lazy(Weights):
    """It promises what no op brings."""

    def plan(self, request):
        made = super().plan(request)
        return replace(made, ops=made.ops[1:])


class Counting(Pages):
    calls = 0

    def plan(self, request):
        self.calls += 1
        return replace(super().plan(request), plan_id=f"pages-{self.calls}")


class Marking(Pages):
    def plan(self, request):
        object.__setattr__(request.demands[0], "priority", 9)
        return super().plan(request)


class Clock(Pages):
    def plan(self, request):
        time.time_ns()
        return super().plan(request)


class Dice(Pages):
    def plan(self, request):
        random.random()  # noqa: S311
        return super().plan(request)


class Reader(Pages):
    def plan(self, request):
        with Path(__file__).open(encoding="utf-8") as file:
            file.readline()
        return super().plan(request)


class Looker(Pages):
    """It hides that it was caught."""

    def plan(self, request):
        with contextlib.suppress(AssertionError):
            os.stat(".")  # noqa: PTH116
        return super().plan(request)


class Shared(Pages):
    """It keeps what it works on in itself."""

    def plan(self, request):
        self.request = request
        for _ in range(200):
            pass
        time.sleep(0.002)  # long enough for another thread to come in between
        return super().plan(self.request)


class Rude(Pages):
    def plan(self, request):
        if not getattr(request, "window_ms", 0):
            raise ValueError("no")
        return super().plan(request)


class Curt(Pages):
    def plan(self, request):
        if not getattr(request, "window_ms", 0):
            raise UnplannableRequest("no")
        return super().plan(request)


class Careless(Pages):
    def plan(self, request):
        if isinstance(request, CacheRequest) and not request.window_ms:
            return CachePlan()
        return super().plan(request)


class Grudging(Pages):
    refused = False

    def plan(self, request):
        try:
            made = super().plan(request)
        except UnplannableRequest:
            self.refused = True
            raise
        return replace(made, plan_id="angry") if self.refused else made


class Gullible(Pages):
    def plan(self, request):
        return super().plan(request) if isinstance(request, CacheRequest) else SwapPlan()


BROKEN = {
    Singleton: "test_make_is_a_factory",
    Indifferent: "test_make_is_a_factory",
    Confused: "test_plans_are_of_the_kind_that_was_asked_for",
    Elsewhere: "test_plans_are_of_the_kind_that_was_asked_for",
    Lonely: "test_plans_are_of_the_kind_that_was_asked_for",
    Timeless: "test_plans_are_of_the_kind_that_was_asked_for",
    Overdrawn: "test_plans_are_sound",
    Unsound: "test_plans_are_sound",
    Unwritable: "test_plans_can_be_written_and_read",
    Forgetful: "test_nothing_gets_lost",
    Blind: "test_nothing_gets_lost",
    Inventive: "test_nothing_gets_lost",
    Lazy: "test_nothing_gets_lost",
    Counting: "test_same_request_gives_the_same_plan",
    Marking: "test_requests_stay_as_they_are",
    Clock: "test_needs_no_clock_no_dice_and_no_files",
    Dice: "test_needs_no_clock_no_dice_and_no_files",
    Reader: "test_needs_no_clock_no_dice_and_no_files",
    Looker: "test_needs_no_clock_no_dice_and_no_files",
    Shared: "test_plans_in_several_threads_at_once",
    Rude: "test_objections_are_errors_that_explain",
    Curt: "test_objections_are_errors_that_explain",
    Careless: "test_objections_are_errors_that_explain",
    Grudging: "test_objections_are_errors_that_explain",
    Gullible: "test_what_is_no_request_is_refused",
}


def of(planner):
    base = TestWeights if issubclass(planner, Weights) else TestPages
    base = TestColumns if issubclass(planner, Columns) else base
    return type("Suite", (base,), {"planner": planner})()


@pytest.mark.parametrize("planner", BROKEN, ids=lambda cls: cls.__name__)
def test_suite_fails_where_a_planner_is_broken(planner):
    with pytest.raises(Exception) as caught:  # noqa: PT011  # what is written is no plan
        getattr(of(planner), BROKEN[planner])()

    assert isinstance(caught.value, AssertionError) or planner is Unwritable


HASHY = """
from dataclasses import replace
from {module} import Pages, TestPages as Base

class Hashy(Pages):
    def plan(self, request):
        made = super().plan(request)
        names = {{one.request: one for one in request.demands}}
        ids = set(names)
        return replace(made, plan_id="x", evict=tuple(names[one].pages for one in ids))

class TestHashy(Base):
    planner = Hashy
"""


def test_suite_fails_where_order_comes_from_a_set(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    path = tmp_path / "hashy.py"
    path.write_text(HASHY.format(module=Path(__file__).stem))
    spec = importlib.util.spec_from_file_location("hashy", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "hashy", module)
    spec.loader.exec_module(module)

    with pytest.raises(AssertionError, match="PYTHONHASHSEED"):
        module.TestHashy().test_hash_seed_makes_no_difference()


def test_every_test_of_the_suite_is_seen_to_fail():
    names = {name for name, _ in inspect.getmembers(PlannerSuite) if name.startswith("test_")} - {
        "test_suite_is_whole",
        "test_hash_seed_makes_no_difference",
    }

    assert set(BROKEN.values()) == names


def test_suite_itself_needs_two_requests_and_a_refusal():
    class One(TestPages):
        def requests(self):
            return super().requests()[:1]

        def refused(self):
            return []

    with pytest.raises(AssertionError, match="two requests"):
        One().test_make_is_a_factory()
    with pytest.raises(AssertionError, match="needs a request"):
        One().test_objections_are_errors_that_explain()
