"""Executions: whatever happens in whatever order, every op ends once, and in its turn."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bb_ir.plan import (
    CachePlan,
    Digest,
    DigestAlgorithm,
    FileChunk,
    InvalidPlan,
    KvPageRef,
    SwapPlan,
    SwapWindow,
    TransferKind,
    TransferOp,
    WeightManifest,
    content_digest,
    digest_text,
)
from bb_plans.errors import UnknownMove
from bb_plans.execution import Execution
from bb_plans.throttles import Throttle
from bb_roles import OpState, Report
from bb_roles.errors import ConfigError, PlanFailed

SECOND = 10**9


def op(number, *, deps=(), lane="", src="mem://in", dst="mem://out", length=8, **more):
    at = more.pop("at", number * length)
    return TransferOp(
        TransferKind.H2H, src, dst, length, at, at, (KvPageRef("kv", number, page_bytes=length),),
        op_id=f"op{number}", deps=tuple(f"op{one}" for one in deps), lane=lane, **more,
    )  # fmt: skip


def cache(*ops, **more):
    return CachePlan("plan", ops, **more)


def digest(text):
    return Digest(DigestAlgorithm.SHA256, text.encode().ljust(32, b"."))


def swap(*sizes, window=None):
    chunks = tuple(
        FileChunk(f"t{n}", 0, size, digest=digest(f"{n}")) for n, size in enumerate(sizes)
    )
    ops = tuple(
        TransferOp(
            TransferKind.STORAGE2H, f"file://{one.path}", f"mem://{one.path}", one.length,
            digest=one.digest, op_id=one.path,
        )
        for one in chunks
    )  # fmt: skip
    return SwapPlan(
        "swap", to=WeightManifest("m", "2", chunks), ops=ops, adds=chunks, window=window
    )


def arrived(plan, move):
    return {index: plan.ops[index].digest for index in move.ops if plan.ops[index].digest}


def run(execution, now=0):
    """Make all moves, one after the other, and return the indices in their order."""
    told = []
    while not execution.over:
        for move in execution.ready(now):
            told.extend(move.ops)
            execution.finish(move, now, digests=arrived(execution.plan, move))
        wakes = execution.wakes_ns(now)
        now = now if wakes is None else max(now, wakes)
    return told


def states(execution):
    return [one.state.value for one in execution.report().ops]


# --- properties


@st.composite
def plans(draw):
    count = draw(st.integers(0, 12))
    ops = []
    for number in range(count):
        deps = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        lane = draw(st.sampled_from(["", "", "a", "b"]))
        src = draw(st.sampled_from(["mem://in", "mem://out", "mem://mid"]))
        dst = draw(st.sampled_from(["mem://out", "mem://mid", "device://d"]))
        kind = TransferKind.H2D if dst.startswith("device") else TransferKind.H2H
        one = TransferOp(
            kind, src, dst, 8, draw(st.integers(0, 12)) * 8, number * 8,
            (KvPageRef("kv", number, page_bytes=8),), op_id=f"op{number}",
            deps=tuple(f"op{d}" for d in sorted(deps)), lane=lane,
            priority=draw(st.integers(-1, 1)), deadline_ns=draw(st.integers(0, 40)),
            tenant=draw(st.sampled_from(["", "t"])),
        )  # fmt: skip
        ops.append(one)
    return cache(*ops)


@settings(deadline=None, max_examples=200)
@given(plans(), st.integers(0, 1 << 32))
def test_every_op_ends_once_and_in_its_turn(plan, seed):
    dice = random.Random(seed)  # noqa: S311  # what happens in a test
    lanes = dice.randint(1, 3)
    throttles = (Throttle(10, 7), Throttle(20, 3, tenant="t")) if dice.random() < 0.5 else ()
    execution = Execution(
        plan,
        0,
        lanes=lanes,
        retries=dice.randint(0, 2),
        budget=dice.randint(0, 4),
        pause_ns=dice.randint(0, 5),
        drop_late=dice.random() < 0.5,
        coalesce=dice.choice([0, 16, 64]),
        fail_fast=dice.random() < 0.3,
        throttles=throttles,
    )
    now, flying, begun, ended = 0, [], {}, {}
    cancels = dice.randint(0, 60)
    for step in range(1000):
        if execution.over:
            break
        if step == cancels:
            execution.cancel(now)
        for move in execution.ready(now):
            flying.append(move)
            for index in move.ops:
                begun[index] = step
        groups = [plan.ops[move.ops[0]].dst.partition("://")[0] for move in flying]
        assert max(map(groups.count, groups), default=0) <= lanes
        if flying and dice.random() < 0.6:
            move = flying.pop(dice.randrange(len(flying)))
            bad = {index: "no" for index in move.ops if dice.random() < 0.2}
            execution.finish(move, now, failures=bad)
            for index in move.ops:
                ended[index] = step
        elif not flying:
            wakes = execution.wakes_ns(now)
            assert execution.over or wakes is not None, "it waits for nothing"
            now = now if wakes is None else max(now, wakes)
        now += dice.randint(0, 2)
    assert execution.over

    report = execution.report()

    assert [one.index for one in report.ops] == list(range(len(plan.ops)))
    assert all(one.state is not OpState.PENDING for one in report.ops)
    assert all(
        bool(one.error) or one.state in (OpState.DONE, OpState.CANCELLED) for one in report.ops
    )
    last = {}
    for index, one in enumerate(plan.ops):
        done = report.ops[index].state is OpState.DONE
        for dep in one.deps:
            before = int(dep[2:])
            assert not done or report.ops[before].state is OpState.DONE
            assert index not in begun or before in ended
            assert index not in begun or begun[index] > ended[before]
        if one.lane in last and done and report.ops[last[one.lane]].state is OpState.DONE:
            # In one move, or one after the other.
            assert ended[last[one.lane]] <= ended[index]
            assert report.ops[last[one.lane]].ended_ns <= report.ops[index].ended_ns
        if one.lane:
            last[one.lane] = index
    progress = execution.progress()
    assert (progress.ops_over, progress.ops_done) == (len(plan.ops), len(report.done))
    assert progress.bytes_done == report.nbytes
    assert Report.from_json(report.to_json()) == report


@settings(deadline=None, max_examples=50)
@given(plans(), st.integers(0, 5))
def test_what_is_done_is_not_done_again(plan, steps):
    first = Execution(plan, 0, lanes=1)
    for _ in range(steps):
        for move in first.ready(0):
            first.finish(move, 0)
    first.cancel(0)
    done = first.report().done

    again = run(Execution(plan, 1, done=done))

    assert sorted([*again, *done]) == list(range(len(plan.ops)))


# --- examples


def test_an_empty_plan_is_over_at_once():
    execution = Execution(cache(), 7)

    report = execution.report()

    assert (execution.over, report.ok, report.ended_ns) == (True, True, 7)
    assert report.plan == digest_text(content_digest(cache()))


def test_ops_go_by_priority_then_deadline_then_place():
    ops = (op(0), op(1, deadline_ns=9), op(2, priority=1), op(3, deadline_ns=5))

    told = run(Execution(cache(*ops), 0, lanes=1, coalesce=0))

    assert told == [2, 3, 1, 0]


def test_ops_side_by_side_are_moved_at_once():
    execution = Execution(cache(*map(op, range(5))), 0, coalesce=24)

    moves = execution.ready(0)

    assert [(move.ops, move.src_offset, move.length) for move in moves] == [
        ((0, 1, 2), 0, 24),
        ((3, 4), 24, 16),
    ]


def test_a_lane_is_moved_at_once_where_its_ops_lie_side_by_side():
    execution = Execution(cache(*(op(n, lane="a") for n in range(3))), 0)

    (move,) = execution.ready(0)
    execution.finish(move, 0, failures={1: "no"})

    assert move.ops == (0, 1, 2)
    assert states(execution) == ["done", "pending", "pending"]  # the third waits for its turn
    assert run(execution, SECOND) == [1, 2]
    assert [one.attempts for one in execution.report().ops] == [1, 2, 1]


def test_who_reads_what_is_written_waits_for_it():
    ops = (
        op(0, dst="mem://mid"),
        op(1, src="mem://mid", at=0, dst="mem://out"),
        op(2, src="mem://mid"),
    )
    execution = Execution(cache(*ops), 0)

    assert [move.ops for move in execution.ready(0)] == [(0,), (2,)]


def test_who_overwrites_what_is_read_waits_for_it():
    ops = (op(0, src="mem://mid", dst="mem://out"), op(0, dst="mem://mid"))
    plan = cache(ops[0], TransferOp(**{**as_dict(ops[1]), "op_id": "op9"}))

    assert [move.ops for move in Execution(plan, 0).ready(0)] == [(0,)]


def as_dict(one):
    return {name: getattr(one, name) for name in type(one).__dataclass_fields__}


def test_nothing_begins_before_the_window():
    plan = swap(5, window=SwapWindow(100, 200))
    execution = Execution(plan, 0)

    assert execution.ready(99) == ()
    assert execution.wakes_ns(99) == 100
    assert len(execution.ready(100)) == 1


def test_a_swap_whose_window_is_over_is_given_up():
    execution = Execution(swap(5, 6, window=SwapWindow(100, 200)), 0, lanes=1)
    (move,) = execution.ready(150)

    execution.finish(move, 201, digests=arrived(execution.plan, move))

    report = execution.report()
    assert states(execution) == ["done", "cancelled"]
    assert (execution.over, report.ok, report.reason) == (True, False, "deadline")


def test_a_swap_that_ends_too_late_is_not_ok():
    execution = Execution(swap(5, window=SwapWindow(100, 200)), 0)
    (move,) = execution.ready(150)

    execution.finish(move, 201, digests=arrived(execution.plan, move))

    assert execution.report().reason == "deadline"


def test_late_ops_are_reported_or_dropped():
    plan = cache(op(0, deadline_ns=5), op(1, deps=(0,)))
    done, dropped = Execution(plan, 9), Execution(plan, 9, drop_late=True)

    run(done, 9)
    run(dropped, 9)

    assert [one.late for one in done.report().ops] == [True, False]
    assert states(dropped) == ["late", "blocked"]
    assert "ops[0], which is late" in dropped.report().ops[1].error


def test_what_needs_a_failed_op_is_blocked():
    plan = cache(op(0), op(1, deps=(0,)), op(2, deps=(1,)), op(4))
    execution = Execution(plan, 0, retries=0)

    for move in execution.ready(0):
        execution.finish(move, 0, failures={0: "gone"})

    assert states(execution) == ["failed", "blocked", "blocked", "done"]
    assert not execution.report().ok


def test_a_swap_is_given_up_when_an_op_fails():
    execution = Execution(swap(5, 6, 7), 0, lanes=1, retries=0)
    (move,) = execution.ready(0)

    execution.finish(move, 0, failures={0: "gone"})

    report = execution.report()
    assert states(execution) == ["failed", "cancelled", "cancelled"]
    with pytest.raises(
        PlanFailed, match=r"given up \(failed\); 3 of 3 ops .* ops\[0\] is failed"
    ) as e:
        report.check()
    assert e.value.report is report


def test_sources_are_tried_in_turn_and_then_again_after_a_pause():
    plan = swap(5)
    execution = Execution(
        plan, 0, retries=1, pause_ns=50, alternatives={"file://t0": ("net://a/t0", "net://b/t0")}
    )
    tried = []
    now = 0
    while not execution.over:
        for move in execution.ready(now):
            tried.append((now, move.src))
            execution.finish(move, now, failures={0: "no"})
        now = execution.wakes_ns(now) or now

    assert tried == [(0, "file://t0"), (0, "net://a/t0"), (0, "net://b/t0"), (50, "file://t0")]
    assert states(execution) == ["failed"]


def test_budget_is_for_all_ops_together():
    execution = Execution(cache(op(0), op(2)), 0, budget=1, pause_ns=0)
    for _ in range(3):
        for move in execution.ready(0):
            execution.finish(move, 0, failures=dict.fromkeys(move.ops, "no"))

    assert [one.attempts for one in execution.report().ops] == [2, 1]


def test_an_op_is_not_done_before_its_digest_was_told():
    for told in ({}, {0: digest("other")}):
        execution = Execution(swap(5), 0, retries=0)
        (move,) = execution.ready(0)

        execution.finish(move, 0, digests=told)

        assert states(execution) == ["failed"]
        assert execution.report().ops[0].error.startswith("DigestMismatch")


def test_throttles_hold_and_nobody_starves():
    ops = [op(0, length=30, tenant="big"), op(9, length=4, tenant="big"), op(20, length=4)]
    execution = Execution(cache(*ops), 0, throttles=[Throttle(10, 100, tenant="big")])
    begun = {}
    now = 0
    while not execution.over:
        for move in execution.ready(now):
            begun[move.ops[0]] = now
            execution.finish(move, now)
        now = execution.wakes_ns(now) or now

    assert begun == {0: 0, 2: 0, 1: 240}  # 20 bytes of debt, and 4 of its own, at 10 in 100 ns


@pytest.mark.parametrize("numbers", [(0, 5), (5, 0), (-1, 1)])
def test_a_throttle_that_lets_nothing_through_is_refused(numbers):
    with pytest.raises(ConfigError, match="throttle"):
        Throttle(*numbers)


def test_cancelled_ops_that_are_under_way_still_count():
    execution = Execution(cache(op(0), op(2), op(4)), 0, lanes=1)
    (move,) = execution.ready(0)

    execution.cancel(1)
    execution.finish(move, 2)

    assert states(execution) == ["done", "cancelled", "cancelled"]
    assert (execution.report().reason, execution.ready(3)) == ("cancelled", ())


def test_cancelled_ops_are_not_tried_again():
    execution = Execution(cache(op(0), op(2)), 0, lanes=1)
    (move,) = execution.ready(0)
    execution.finish(move, 0, failures={0: "no"})

    execution.cancel(1)

    assert states(execution) == ["cancelled", "cancelled"]
    assert execution.over


def test_moves_end_once():
    execution = Execution(cache(op(0)), 0)
    (move,) = execution.ready(0)
    execution.finish(move, 0)

    with pytest.raises(UnknownMove):
        execution.finish(move, 0)


def test_unsound_plans_are_refused():
    with pytest.raises(InvalidPlan, match="deps"):
        Execution(cache(op(0, deps=(1,)), op(1, deps=(0,))), 0)
    with pytest.raises(InvalidPlan, match="waits for itself"):
        Execution(cache(op(0, deps=(1,)), op(1, deps=(0,))), 0, checked=True)
