"""The suite of executors passes on one that works, and fails where one is broken in one way."""

import hashlib
import inspect
from dataclasses import replace

import pytest

from bb_ir.plan import Digest, InvalidPlan, content_digest, digest_text
from bb_plans.execution import Execution
from bb_plans.places import Places, content_of
from bb_roles import Executor, OpState, Progress, Ticket
from bb_roles.errors import ExecutorClosed
from bb_testing import ExecutorSuite


class Over(Ticket):
    """What is over when it is submitted."""

    def __init__(self, report, progress):
        self._report, self._progress = report, progress

    def poll(self):
        return True

    def wait(self, timeout_s=None):
        return self._report

    def cancel(self):
        pass

    def progress(self):
        return self._progress

    def report(self):
        return self._report


class Plain(Executor):
    """Carries plans out inside of `submit`."""

    ticket = Over

    def __init__(self, files, arenas):
        super().__init__(None, Places(files=files, arenas=arenas))
        self.closed = False

    def submit(self, plan, *, resume=None):
        if self.closed:
            raise ExecutorClosed("it was closed", fix="build another one")
        self.check(plan)
        content = content_of(plan)
        execution = Execution(content, 10, done=self.done(content, resume), retries=0, checked=True)
        while not execution.over:
            for move in self.moves(execution):
                self.move(content, move)
                digests = {index: self.digest(content, index) for index in move.ops}
                execution.finish(move, 10, digests=digests)
        return self.ticket(execution.report(), execution.progress())

    def check(self, plan):
        self.places.check(plan)

    def moves(self, execution):
        return execution.ready(10)

    def done(self, plan, resume):
        if resume is None:
            return ()
        if resume.plan != digest_text(content_digest(plan)):
            raise InvalidPlan("it is the report of another plan", expected="this", fix="none")
        return [index for index in resume.done if self.is_there(plan, index)]

    def is_there(self, plan, index):
        return self.digest(plan, index) == plan.ops[index].digest

    def move(self, plan, move):
        data = memoryview(bytearray(move.length))
        with self.places.source(move.src) as source:
            source.read(move.src_offset, data)
        with self.places.sink(move.dst, 0) as sink:
            sink.write(move.dst_offset, data)

    def digest(self, plan, index):
        op = plan.ops[index]
        data = memoryview(bytearray(op.length))
        with self.places.source(op.dst) as region:
            region.read(op.dst_offset, data)
        return op.digest and Digest(op.digest.algorithm, hashlib.sha256(data).digest())

    def close(self):
        self.closed = True
        self.places.close()


class TestPlain(ExecutorSuite):
    executor = Plain

    def make(self, files, arenas):
        return self.executor(files, arenas)


# Each of these is broken in one way.


class Shared(Plain):
    made = None

    def __new__(cls, *_):
        cls.made = cls.made or super().__new__(cls)
        return cls.made


class Idle(Plain):
    def move(self, plan, move):
        pass

    def digest(self, plan, index):
        return plan.ops[index].digest


class Enveloped(Plain):
    """It tells the digest of the envelope's label."""

    def submit(self, plan, *, resume=None):
        ticket = super().submit(plan, resume=resume)
        if hasattr(plan, "swap"):
            ticket._report = replace(ticket._report, plan="sha256:" + plan.label)
        return ticket


class NeverEmpty(Plain):
    def submit(self, plan, *, resume=None):
        ticket = super().submit(plan, resume=resume)
        if not ticket._report.ops:
            ticket._report = replace(ticket._report, reason="empty")
        return ticket


class Shifted(Plain):
    """It forgets where bytes go."""

    def move(self, plan, move):
        super().move(plan, move._replace(dst_offset=0) if plan.plan_id == "pages" else move)


class Hasty(Plain):
    """It does what is told first."""

    def submit(self, plan, *, resume=None):
        if getattr(plan, "plan_id", "") == "hops":
            ops = tuple(
                replace(op, deps=(), op_id=f"{op.op_id}{n}") for n, op in enumerate(plan.ops)
            )
            for op in ops:
                super().submit(replace(plan, ops=(op,)))
        return super().submit(replace(plan, ops=()) if plan.plan_id == "hops" else plan)


class Unordered(Plain):
    def submit(self, plan, *, resume=None):
        ticket = super().submit(plan, resume=resume)
        ops = tuple(replace(op, ended_ns=100 - op.index) for op in ticket._report.ops)
        ticket._report = replace(ticket._report, ops=ops)
        return ticket


class NoFiles(Plain):
    def move(self, plan, move):
        if not move.dst.startswith("file://new"):
            super().move(plan, move)

    def digest(self, plan, index):
        is_new = plan.ops[index].dst.startswith("file://new")
        return plan.ops[index].digest if is_new else super().digest(plan, index)


class OneReport(Plain):
    first = None

    def submit(self, plan, *, resume=None):
        self.first = self.first or super().submit(plan, resume=resume)
        return self.first


class Trusting(Plain):
    def check(self, plan):
        pass


class Late(Plain):
    """It moves first and looks then."""

    def submit(self, plan, *, resume=None):
        try:
            self.check(plan)
        except InvalidPlan:
            for move in Execution(replace(plan, ops=plan.ops[:1]), 10).ready(10):
                self.move(plan, move)
        return super().submit(plan, resume=resume)


class Nameless(Plain):
    def check(self, plan):
        try:
            super().check(plan)
        except InvalidPlan:
            raise InvalidPlan("it is bad", expected="a good one", fix="no") from None


class Foreign(Plain):
    def check(self, plan):
        try:
            super().check(plan)
        except InvalidPlan as error:
            if "there is no arena" in error.found:
                raise KeyError("mem://none") from None
            raise


class Blind(Plain):
    def digest(self, plan, index):
        return plan.ops[index].digest


class Careless(Plain):
    """It does not care what became of deps."""

    def submit(self, plan, *, resume=None):
        if getattr(plan, "plan_id", "") != "some":
            return super().submit(plan, resume=resume)
        ops = tuple(replace(op, deps=()) for op in plan.ops)
        return super().submit(replace(plan, ops=ops), resume=resume)


class Timeless(Plain):
    def submit(self, plan, *, resume=None):
        if getattr(plan, "window", None) is not None:
            plan = replace(plan, window=None)
        return super().submit(plan, resume=resume)


class Revising(Plain):
    class ticket(Over):  # noqa: N801
        def cancel(self):
            self._report = replace(self._report, reason=self._report.reason + "again")


class Modest(Plain):
    class ticket(Over):  # noqa: N801
        def progress(self):
            return Progress(0, 0, 0, 0, 0)


class Believing(Plain):
    def is_there(self, plan, index):
        return True


class Diligent(Plain):
    def is_there(self, plan, index):
        return False


class Indifferent(Plain):
    def done(self, plan, resume):
        own = resume and resume.plan == digest_text(content_digest(plan))
        return super().done(plan, resume) if own else ()


class Undead(Plain):
    def close(self):
        pass


class Pending(Plain):
    class ticket(Over):  # noqa: N801
        def poll(self):
            return False


class Lossy(Plain):
    def submit(self, plan, *, resume=None):
        ticket = super().submit(plan, resume=resume)
        ticket._report = replace(ticket._report, ops=ticket._report.ops[1:])
        return ticket


class Unfinished(Plain):
    def submit(self, plan, *, resume=None):
        ticket = super().submit(plan, resume=resume)
        ops = tuple(replace(op, state=OpState.PENDING) for op in ticket._report.ops)
        ticket._report = replace(ticket._report, ops=ops)
        return ticket


BROKEN = {
    Shared: "test_make_is_a_factory",
    Idle: "test_swaps_are_carried_out",
    Lossy: "test_swaps_are_carried_out",
    Unfinished: "test_a_plan_can_be_cancelled_at_any_time",
    Enveloped: "test_plans_in_an_envelope_are_carried_out",
    NeverEmpty: "test_an_empty_plan_is_over_at_once",
    Shifted: "test_pages_are_carried_out",
    Hasty: "test_ops_wait_for_their_deps",
    Unordered: "test_ops_of_a_lane_keep_their_order",
    NoFiles: "test_files_are_written",
    OneReport: "test_several_plans_at_once",
    Trusting: "test_unsound_plans_are_refused_before_anything_moves",
    Late: "test_unsound_plans_are_refused_before_anything_moves",
    Nameless: "test_reading_past_the_end_of_a_file_is_refused",
    Foreign: "test_places_that_are_not_there_are_refused",
    Blind: "test_wrong_bytes_are_found",
    Careless: "test_what_depends_on_a_failed_op_is_not_done",
    Timeless: "test_a_swap_whose_window_is_over_does_nothing",
    Revising: "test_a_plan_can_be_cancelled_at_any_time",
    Modest: "test_progress_ends_at_all_bytes",
    Believing: "test_a_plan_is_resumed",
    Diligent: "test_a_plan_is_resumed",
    Indifferent: "test_a_report_of_another_plan_is_refused",
    Undead: "test_a_closed_executor_takes_no_plans",
    Pending: "test_close_ends_what_is_under_way",
}


@pytest.mark.parametrize("executor", BROKEN, ids=lambda cls: cls.__name__)
def test_suite_fails_where_an_executor_is_broken(executor):
    suite = type("Suite", (TestPlain,), {"executor": executor})()

    with pytest.raises(AssertionError):
        getattr(suite, BROKEN[executor])()


def test_every_test_of_the_suite_is_seen_to_fail():
    names = {name for name, _ in inspect.getmembers(ExecutorSuite) if name.startswith("test_")}

    assert set(BROKEN.values()) == names - {"test_suite_is_whole"}
