"""The contract of planners, as tests. Provisional, as the contract is."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from bb_ir.errors import BytesAndBrainsError
from bb_ir.plan import (
    CachePlan,
    FileChunk,
    KvPageRef,
    SwapPlan,
    chunk_digest,
    content_digest,
    digest_text,
    from_bytes,
    from_json,
    to_bytes,
    to_json,
    validate,
)
from bb_roles import CacheRequest, PageDemand, Planner, SwapRequest
from bb_testing._at_once import THREADS, at_once
from bb_testing._base import Suite
from bb_testing._elsewhere import check_told_elsewhere
from bb_testing._no_files import arguments_only

__all__ = ["PlannerSuite"]


class PlannerSuite(Suite):
    """Inherit it in a class named `Test...` and write `make`, `requests` and `refused`."""

    def make(self) -> Planner:
        """Return a fresh planner, equal to every other that this method returns."""
        raise NotImplementedError(f"{type(self).__qualname__} needs `def make(self)`")

    def requests(self) -> Sequence[CacheRequest | SwapRequest]:
        """Return requests that the planner makes plans for, two at least, each a different one."""
        raise NotImplementedError(f"{type(self).__qualname__} needs `def requests(self)`")

    def refused(self) -> Sequence[CacheRequest | SwapRequest]:
        """Return requests that no plan can be made of."""
        raise NotImplementedError(f"{type(self).__qualname__} needs `def refused(self)`")

    def surroundings(self, request: CacheRequest | SwapRequest) -> Mapping[str, Any]:
        """Return what else `bb_ir.plan.validate` shall know: `media`, `regions`, `lane_rate`."""
        return {}

    def told(self) -> list[str]:
        """Return the digest of the plan for each request."""
        planner = self.make()
        return [digest_text(content_digest(planner.plan(one))) for one in self.requests()]

    def test_make_is_a_factory(self) -> None:
        """The kit uses several planners at once, so each call gives another one."""
        first, second = self.make(), self.make()
        assert isinstance(first, Planner), (
            f"make() returned a {type(first).__name__}, which does not inherit bb_roles.Planner"
        )
        assert first is not second, "make() returned one object twice; build a new one each time"
        told = self.told()
        assert len(told) > 1, "requests() needs two requests at least"
        assert len({*told}) == len(told), "two of requests() have the same plan: give others"

    def test_plans_are_of_the_kind_that_was_asked_for(self) -> None:
        """A swap has a `SwapPlan` between the manifests given, with what else was asked for."""
        for request in self.requests():
            plan: object = self.make().plan(request)
            wanted = SwapPlan if isinstance(request, SwapRequest) else CachePlan
            assert isinstance(plan, wanted), (
                f"plan() of a {type(request).__name__} returned a {type(plan).__name__}, "
                f"not a {wanted.__name__}"
            )
            if isinstance(plan, SwapPlan) and isinstance(request, SwapRequest):
                given, made = (request.from_, request.to), (plan.from_, plan.to)
                assert made == given, "the plan is between other manifests than the request"
                assert plan.window == request.window, "the plan has another window"
                for name in ("commit_group", "rollback_to", "kv_policy", "optimizer_policy"):
                    asked = getattr(request, name)
                    assert not asked or getattr(plan, name) == asked, (
                        f"the plan has another {name}: take it from the request"
                    )
            if isinstance(plan, CachePlan) and isinstance(request, CacheRequest):
                window = plan.now_ns, plan.window_ms
                assert window == (request.now_ns, request.window_ms), (
                    "the plan has another window: take now_ns and window_ms from the request"
                )

    def test_plans_are_sound(self) -> None:
        """The validator finds nothing but warnings."""
        for number, request in enumerate(self.requests()):
            quotas = request.quotas if isinstance(request, CacheRequest) else ()
            known: dict[str, Any] = {"quotas": quotas, **self.surroundings(request)}
            found = validate(self.make().plan(request), **known)
            errors = [str(one) for one in found if not one.warning]
            assert not errors, f"the plan for requests()[{number}] is not sound:\n  " + "\n  ".join(
                errors
            )

    def test_plans_can_be_written_and_read(self) -> None:
        """A plan is the same after it was bytes or JSON."""
        for request in self.requests():
            plan = self.make().plan(request)
            assert from_bytes(type(plan), to_bytes(plan)) == plan, "protobuf changed the plan"
            assert from_json(type(plan), to_json(plan)) == plan, "JSON changed the plan"

    def test_nothing_gets_lost(self) -> None:
        """Ops bring every chunk that is added; every demand is met, held or rejected."""
        for number, request in enumerate(self.requests()):
            plan = self.make().plan(request)
            lost = _lost(plan, request)
            assert not lost, f"the plan for requests()[{number}] forgets {', '.join(lost)}"

    # Determinism.

    def test_same_request_gives_the_same_plan(self) -> None:
        """A planner keeps nothing between calls, and two planners are alike."""
        planner, requests = self.make(), self.requests()
        first = [planner.plan(one) for one in requests]
        again = [planner.plan(one) for one in reversed(requests)][::-1]
        fresh = [self.make().plan(one) for one in self.requests()]
        for number, plan in enumerate(first):
            assert to_bytes(plan) == to_bytes(again[number]) == to_bytes(fresh[number]), (
                f"requests()[{number}] has different plans: keep nothing between calls"
            )

    def test_requests_stay_as_they_are(self) -> None:
        """A request belongs to whoever asks."""
        for number, request in enumerate(self.requests()):
            before = copy.deepcopy(request)
            self.make().plan(request)
            assert request == before, f"plan() changed requests()[{number}]"

    def test_hash_seed_makes_no_difference(self) -> None:
        """The order of a set differs from process to process; plans must not."""
        check_told_elsewhere(self, "plans")

    def test_needs_no_clock_no_dice_and_no_files(self) -> None:
        """All that a planner knows is in its configuration and the request."""
        planner, requests = self.make(), self.requests()
        self.told()  # also imports whatever is imported on first use
        package = type(planner).__module__.partition(".")[0]
        with arguments_only(package, "plan()", "an argument"):
            for request in requests:
                planner.plan(request)

    def test_plans_in_several_threads_at_once(self) -> None:
        """One planner serves several threads."""
        planner, requests = self.make(), self.requests()
        expected = [to_bytes(planner.plan(one)) for one in requests]
        found = at_once(lambda request: to_bytes(planner.plan(request)), requests)
        for one in found:
            assert one == expected, (
                f"{THREADS} threads at once got other plans than one alone: {one!r:.200}; keep "
                "what a plan is made of in variables of plan(), not in attributes"
            )

    # Bad requests.

    def test_objections_are_errors_that_explain(self) -> None:
        """What no plan can be made of is told so, and does no harm to what follows."""
        assert self.refused(), "refused() needs a request at least"
        planner, first = self.make(), self.requests()[0]
        expected = to_bytes(planner.plan(first))
        for number, request in enumerate(self.refused()):
            _check_objection(planner, request, f"refused()[{number}]")
            assert to_bytes(planner.plan(first)) == expected, (
                f"after refused()[{number}] the planner makes other plans"
            )

    def test_what_is_no_request_is_refused(self) -> None:
        """Neither other values nor requests of a kind that it does not plan do harm."""
        kinds = {type(one) for one in self.requests()}
        for request in (None, 3, "swap", object(), SwapPlan()):
            _check_objection(self.make(), request, repr(request))
        for other in (CacheRequest(0, 0), SwapRequest(to=SwapPlan())):  # type: ignore[arg-type]  # bad on purpose
            if type(other) not in kinds:
                _check_objection(self.make(), other, f"a {type(other).__name__}")


def _check_objection(planner: Any, request: object, what: str) -> None:
    found: object = None
    try:
        plan: object = planner.plan(request)
    except Exception as error:  # noqa: BLE001  # which kind it is gets asserted
        found = error
    else:
        raise AssertionError(f"plan() makes a {type(plan).__name__} of {what}")
    assert isinstance(found, BytesAndBrainsError), (
        f"plan() raises {found!r} for {what}; raise bb_roles.errors.UnplannableRequest"
    )
    assert found.expected or found.fix, (
        f"{found.code} of {what} says neither what was expected nor a fix"
    )


def _lost(plan: CachePlan | SwapPlan, request: CacheRequest | SwapRequest) -> list[str]:
    if isinstance(plan, SwapPlan):
        return [f"the bytes of {c.path!r}" for c in plan.adds if not _is_brought(c, plan)]
    if isinstance(request, SwapRequest):
        return []
    demands, held = _asked(request)
    told = {one.request for one in plan.rejected}
    known = {one.request for one in demands}
    strangers = sorted(f"to reject only what was asked for, not {one!r}" for one in told - known)
    moved = [ref for op in plan.ops for ref in op.kv_refs]
    here = _runs([*moved, *held])
    lost = [
        f"demand {one.request!r}"
        for one in demands
        if one.request not in told and not _covers(here.get(_stack(one.pages), []), one.pages)
    ]
    return [*strangers, *lost]


def _asked(request: CacheRequest) -> tuple[list[PageDemand], list[KvPageRef]]:
    """Return demands and held pages, wherever the request has them."""
    if request.tables is None:
        return [*request.demands], [*request.held]
    return [*request.tables.demands()], [*request.tables.held_pages()]


def _is_brought(chunk: FileChunk, plan: SwapPlan) -> bool:
    """Tell whether ops bring all bytes of a chunk: by its digest, or from its place."""
    digest = chunk_digest(chunk)
    if not chunk.length or any(op.digest == digest for op in plan.ops):
        return True
    here = [
        (op.src_offset, op.src_offset + op.length)
        for op in plan.ops
        if op.src == f"file://{chunk.path}" and not op.codec
    ]
    return _spans(here, chunk.offset, chunk.offset + chunk.length)


def _stack(ref: KvPageRef) -> tuple[str, int, int]:
    return ref.tensor, ref.layer, ref.head


def _runs(refs: Sequence[KvPageRef]) -> dict[tuple[str, int, int], list[tuple[int, int]]]:
    found: dict[tuple[str, int, int], list[tuple[int, int]]] = {}
    for ref in refs:
        found.setdefault(_stack(ref), []).append((ref.page, ref.page + (ref.page_count or 1)))
    return found


def _covers(runs: list[tuple[int, int]], pages: KvPageRef) -> bool:
    return _spans(runs, pages.page, pages.page + (pages.page_count or 1))


def _spans(runs: list[tuple[int, int]], begin: int, end: int) -> bool:
    """Tell whether runs hold all from one number to another."""
    for first, last in sorted(runs):
        if first > begin:
            break
        begin = max(begin, last)
    return begin >= end
