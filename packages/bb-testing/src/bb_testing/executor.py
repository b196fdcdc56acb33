"""The contract of executors, as tests. Provisional, as the contract is."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from bb_ir.errors import BytesAndBrainsError
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
    sealed,
)
from bb_roles import Executor, OpState, Report
from bb_roles.errors import ExecutorClosed, PlanFailed
from bb_testing._base import Suite

__all__ = ["ExecutorSuite"]

_TO_HOST: Final = TransferKind.STORAGE2H
_SIZE: Final = 5000
_PAGE: Final = 512
#: How long a plan of some kilobytes may take, in seconds, before it counts as lost.
_LONGEST: Final = 60.0


class ExecutorSuite(Suite):
    """Inherit it in a class named `Test...` and write `make`."""

    def make(self, files: Path, arenas: Mapping[str, bytearray]) -> Executor:
        """Return a fresh executor.

        Args:
            files: The folder that `file://` is below.
            arenas: The memory of the arenas there are, `mem://` and `device://`, by their place.
        """
        raise NotImplementedError(f"{type(self).__qualname__} needs `def make(self, ...)`")

    def test_make_is_a_factory(self) -> None:
        """The kit uses several executors at once, so each call gives another one."""
        with _world(self) as world:
            first, second = world.executor(), world.executor()
            assert isinstance(first, Executor), (
                f"make() returned a {type(first).__name__}, which is no bb_roles.Executor"
            )
            assert first is not second, "make() returned one object twice; build a new one"

    # What is carried out.

    def test_swaps_are_carried_out(self) -> None:
        """Bytes arrive where the plan says, and the report accounts for every op."""
        with _world(self) as world:
            plan = world.swap()
            report = world.carry(plan)
            _check_whole(plan, report)
            report.check()
            assert world.arena("mem://staged") == world.data("layer"), "other bytes arrived"
            assert report.nbytes == _SIZE, f"the report tells of {report.nbytes} bytes"

    def test_plans_in_an_envelope_are_carried_out(self) -> None:
        """A `Plan` is carried out as what it holds."""
        with _world(self) as world:
            report = world.carry(sealed(world.swap(), producer="kit", created_ns=0))
            report.check()
            told = digest_text(content_digest(world.swap()))
            assert report.plan == told, "report.plan is not the content digest of what it held"

    def test_an_empty_plan_is_over_at_once(self) -> None:
        """No ops are done soon, and that is no failure."""
        with _world(self) as world:
            report = world.carry(CachePlan("empty"))
            assert report.ok, "an empty plan is not ok"
            assert report.ops == (), "an empty plan has ops in its report"

    def test_pages_are_carried_out(self) -> None:
        """Ops with offsets move just their bytes, and leave all others as they were."""
        with _world(self) as world:
            into = tuple(_page(n, "file://layer", "mem://staged", _TO_HOST) for n in (1, 2, 5))
            report = world.carry(CachePlan("pages", into))
            report.check()
            expected = bytearray(_SIZE)
            for number in (1, 2, 5):
                run = slice(number * _PAGE, (number + 1) * _PAGE)
                expected[run] = world.data("layer")[run]
            assert world.arena("mem://staged") == expected, "other bytes than those of pages moved"

    def test_ops_wait_for_their_deps(self) -> None:
        """What one op brings is there for those that depend on it."""
        with _world(self) as world:
            hops = ("mem://staged", "device://pages", "mem://back")
            kinds = (_TO_HOST, TransferKind.H2D, TransferKind.D2H)
            ops = tuple(
                _page(0, src, dst, kind, op_id=dst, deps=() if src.startswith("file") else (src,))
                for src, dst, kind in zip(("file://layer", *hops), hops, kinds, strict=False)
            )
            # Told last to first: the order is that of deps, not of the list.
            world.carry(CachePlan("hops", ops[::-1])).check()
            assert world.arena("mem://back")[:_PAGE] == world.data("layer")[:_PAGE], (
                "an op ran before the one that it depends on"
            )

    def test_ops_of_a_lane_keep_their_order(self) -> None:
        """An op of a lane is over before the next one of it is."""
        with _world(self) as world:
            ops = tuple(
                _page(n, "file://layer", "mem://staged", _TO_HOST, lane="one") for n in (4, 0, 3, 1)
            )
            report = world.carry(CachePlan("lane", ops))
            ends = [one.ended_ns for one in report.ops]
            assert ends == sorted(ends), f"ops of one lane ended at {ends}"

    def test_files_are_written(self) -> None:
        """A file that is not there is made, with its folders."""
        with _world(self) as world:
            world.arenas["mem://staged"][:] = world.data("layer")
            op = _op("mem://staged", "file://new/folder/copy", TransferKind.H2STORAGE, world)
            world.carry(world.swap(op)).check()
            assert world.data("new/folder/copy") == world.data("layer"), "the file has other bytes"

    def test_several_plans_at_once(self) -> None:
        """One executor carries several plans out, each with a report of its own."""
        with _world(self) as world:
            executor = world.executor()
            plans = [
                CachePlan(f"p{n}", (_page(n, "file://layer", "mem://staged", _TO_HOST),))
                for n in range(6)
            ]
            tickets = [executor.submit(plan) for plan in plans]
            for plan, ticket in zip(plans, tickets, strict=True):
                report = ticket.wait(_LONGEST)
                report.check()
                _check_whole(plan, report)

    # What is refused, and what fails.

    def test_unsound_plans_are_refused_before_anything_moves(self) -> None:
        """One bad op among good ones, and nothing is moved."""
        with _world(self) as world:
            good = _page(0, "file://layer", "mem://staged", _TO_HOST)
            for bad in _bad_ops():
                _check_refused(world, CachePlan("bad", (good, bad)))

    def test_reading_past_the_end_of_a_file_is_refused(self) -> None:
        """The size of a file is looked at before anything moves, and the op is named."""
        with _world(self) as world:
            good = _page(0, "file://layer", "mem://staged", _TO_HOST)
            long = _page(9, "file://layer", "mem://staged", _TO_HOST)
            found = _check_refused(world, CachePlan("long", (good, long)))
            assert "ops[1]" in str(found), f"the refusal does not name ops[1]: {found}"

    def test_places_that_are_not_there_are_refused(self) -> None:
        """A file, an arena or a peer that there is not is found before anything moves."""
        with _world(self) as world:
            good = _page(0, "file://layer", "mem://staged", _TO_HOST)
            for src, kind in (("file://gone", _TO_HOST), ("mem://none", TransferKind.H2H)):
                _check_refused(
                    world, CachePlan("gone", (good, _page(1, src, "mem://staged", kind)))
                )

    def test_wrong_bytes_are_found(self) -> None:
        """What arrives with another digest than the plan says is a failure of the op."""
        with _world(self) as world:
            damaged = bytearray(world.data("layer"))
            damaged[1234] ^= 1
            plan = world.swap()
            (world.files / "layer").write_bytes(damaged)
            report = world.carry(plan)
            assert report.ops[0].state is OpState.FAILED, (
                f"an op whose bytes were damaged is {report.ops[0].state.value}: compare the "
                "digest of what arrived"
            )
            assert report.ops[0].error, "the op's error is empty"
            assert not report.ok, "the report of a failed op is ok"
            _check_raises(report)

    def test_what_depends_on_a_failed_op_is_not_done(self) -> None:
        """Failures spread to those that wait for the op, and to nobody else."""
        with _world(self) as world:
            wrong = Digest(DigestAlgorithm.SHA256, bytes(32))
            ops = (
                _page(0, "file://layer", "mem://staged", _TO_HOST, op_id="bad", digest=wrong),
                _page(0, "file://layer", "mem://back", _TO_HOST, deps=("bad",)),
                _page(2, "file://layer", "mem://staged", _TO_HOST),
            )
            report = world.carry(CachePlan("some", ops))
            states = [one.state for one in report.ops]
            assert states == [OpState.FAILED, OpState.BLOCKED, OpState.DONE], (
                f"a failed op, one that depends on it, and another one are {states}"
            )
            assert not any(world.arena("mem://back")), "an op moved what its dep did not bring"

    def test_a_swap_whose_window_is_over_does_nothing(self) -> None:
        """Late is too late: nothing moves, and the report says why."""
        with _world(self) as world:
            report = world.carry(world.swap(window=SwapWindow(1, 2)))
            assert report.reason == "deadline", f"the reason is {report.reason!r}, not 'deadline'"
            assert not any(world.arena("mem://staged")), "bytes moved after the deadline"
            assert [one.state for one in report.ops] == [OpState.CANCELLED]

    # Tickets.

    def test_a_plan_can_be_cancelled_at_any_time(self) -> None:
        """Whatever has begun then ends, and the report accounts for all ops."""
        with _world(self) as world:
            ops = tuple(_page(n, "file://layer", "mem://staged", _TO_HOST) for n in range(8))
            plan = CachePlan("many", ops)
            ticket = world.executor().submit(plan)
            ticket.cancel()
            report = ticket.wait(_LONGEST)
            _check_whole(plan, report)
            ticket.cancel()
            assert ticket.wait(_LONGEST) == report, "cancelling what is over changed the report"
            assert ticket.poll(), "poll() is false after wait()"

    def test_progress_ends_at_all_bytes(self) -> None:
        """When a plan is over, progress says so in ops and in bytes."""
        with _world(self) as world:
            ticket = world.executor().submit(world.swap())
            ticket.wait(_LONGEST)
            told = ticket.progress()
            found = (told.ops_over, told.ops_done, told.ops, told.bytes_done, told.nbytes)
            assert found == (1, 1, 1, _SIZE, _SIZE), f"progress() is {told}"
            assert ticket.report() == ticket.wait(), "report() and wait() differ at the end"

    def test_a_plan_is_resumed(self) -> None:
        """Ops that are done are not done again, and those whose bytes are gone are."""
        with _world(self) as world:
            plan = world.swap()
            first = world.carry(plan)
            again = Report.from_json(first.to_json())
            assert again == first, "a report is another one after it was written and read"
            assert world.carry(plan, resume=again).ops[0].attempts == 0, (
                "an op whose bytes are there was done again"
            )
            world.arenas["mem://staged"][7] ^= 1
            world.carry(plan, resume=again).check()
            assert world.arena("mem://staged") == world.data("layer"), (
                "an op whose bytes are gone was taken for done: look at them"
            )

    def test_a_report_of_another_plan_is_refused(self) -> None:
        """A report belongs to one plan."""
        with _world(self) as world:
            other = world.carry(CachePlan("empty"))
            _check_refused(world, world.swap(), resume=other)

    def test_a_closed_executor_takes_no_plans(self) -> None:
        """After `close`, which may be repeated, nothing is begun."""
        with _world(self) as world:
            executor = world.executor()
            executor.close()
            executor.close()
            found: object = None
            try:
                executor.submit(world.swap())
            except BytesAndBrainsError as error:
                found = error
            assert isinstance(found, ExecutorClosed), f"submit() after close() gave {found!r}"
            assert not any(world.arena("mem://staged")), "bytes moved after close()"

    def test_close_ends_what_is_under_way(self) -> None:
        """When `close` returns, every plan is over."""
        with _world(self) as world:
            executor = world.executor()
            ops = tuple(_page(n, "file://layer", "mem://staged", _TO_HOST) for n in range(8))
            ticket = executor.submit(CachePlan("many", ops))
            executor.close()
            assert ticket.poll(), "a plan is under way after close()"


class _World:
    """A folder with a file, some arenas, and executors."""

    def __init__(self, suite: ExecutorSuite, files: Path) -> None:
        self._suite, self.files = suite, files
        (files / "layer").write_bytes(hashlib.shake_256(b"layer").digest(_SIZE))
        self.arenas = {
            place: bytearray(_SIZE) for place in ("mem://staged", "mem://back", "device://pages")
        }
        self._made: list[Any] = []

    def executor(self) -> Executor:
        self._made.append(self._suite.make(self.files, self.arenas))
        return self._made[-1]  # type: ignore[no-any-return]

    def close(self) -> None:
        for one in self._made:
            if isinstance(one, Executor):
                one.close()

    def carry(self, plan: Any, *, resume: Report | None = None) -> Report:
        return self.executor().submit(plan, resume=resume).wait(_LONGEST)

    def data(self, path: str) -> bytes:
        assert (self.files / path).exists(), f"there is no file {path!r}"
        return (self.files / path).read_bytes()

    def arena(self, place: str) -> bytes:
        return bytes(self.arenas[place])

    def swap(self, *ops: TransferOp, window: SwapWindow | None = None) -> SwapPlan:
        """Return a swap to the file's bytes; if no ops are given, one that reads them."""
        chunk = FileChunk("layer", 0, _SIZE, digest=_sha256(self.data("layer")))
        told = ops or (_op("file://layer", "mem://staged", _TO_HOST, self),)
        new = WeightManifest("kit", "2", (chunk,))
        return SwapPlan("swap", None, new, told, window, adds=(chunk,))


@contextmanager
def _world(suite: ExecutorSuite) -> Generator[_World]:
    with TemporaryDirectory() as folder:
        world = _World(suite, Path(folder))
        try:
            yield world
        finally:
            world.close()


def _sha256(data: bytes) -> Digest:
    return Digest(DigestAlgorithm.SHA256, hashlib.sha256(data).digest())


def _op(src: str, dst: str, kind: TransferKind, world: _World) -> TransferOp:
    return TransferOp(kind, src, dst, _SIZE, digest=_sha256(world.data("layer")))


def _page(number: int, src: str, dst: str, kind: TransferKind, **more: Any) -> TransferOp:
    ref = KvPageRef("kv", number, page_bytes=_PAGE)
    at = number * _PAGE
    return TransferOp(kind, src, dst, _PAGE, at, at, (ref,), **more)


def _bad_ops() -> Iterator[TransferOp]:
    yield _page(1, "file://layer", "mem://staged", TransferKind.H2D)
    yield _page(1, "file://../layer", "mem://staged", _TO_HOST)
    yield _page(1, "file://layer", "mem://staged", _TO_HOST, deps=("nobody",))
    yield _page(0, "file://layer", "mem://staged", _TO_HOST)  # the bytes of the good one
    yield _page(20, "file://layer", "mem://staged", _TO_HOST)


def _check_whole(plan: CachePlan | SwapPlan, report: Report) -> None:
    indices = [one.index for one in report.ops]
    assert indices == list(range(len(plan.ops))), f"the report tells of ops {indices}"
    pending = [one.index for one in report.ops if one.state is OpState.PENDING]
    assert not pending, f"in the final report ops {pending} are pending"
    told = digest_text(content_digest(plan))
    assert report.plan == told, "report.plan is not the content digest of the plan"


def _check_refused(world: _World, plan: Any, **more: Any) -> InvalidPlan:
    found: object = None
    before = {place: bytes(held) for place, held in world.arenas.items()}
    try:
        world.executor().submit(plan, **more).wait(_LONGEST)
    except Exception as error:  # noqa: BLE001  # which kind it is gets asserted
        found = error
    assert isinstance(found, InvalidPlan), (
        f"submit() of a plan that cannot be carried out gave {found!r}, not InvalidPlan: {plan}"
    )
    after = {place: bytes(held) for place, held in world.arenas.items()}
    assert after == before, "bytes moved although the plan was refused"
    return found


def _check_raises(report: Report) -> None:
    try:
        report.check()
    except PlanFailed:
        return
    raise AssertionError("check() of the report of a failed plan raises nothing")
