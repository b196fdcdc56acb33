"""Work that components defer: done anywhere and at any time, and as if it had been done at once."""

import gc
import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bb_dsl as bb
from bb_ir.ids import PeerId
from bb_roles import Index, Model
from bb_runtime import ComponentStuck, DeliveryError, FrameEnded, LocalBus, Node, Options, install
from bb_runtime.errors import ConstructionFailed, NodeBroken, OpError, Quarantined
from bb_testing.programs import CountingModel, ListSource, PartConfig, Stage, SumAggregator, Wire

SECOND = 10**9


class Slow(CountingModel):
    """Defers `fit`, and `evaluate`, which only reads; sees when calls into it overlap.

    Attributes:
        ran: Names of the threads that did its work.
        log: Calls and commits in their order.
    """

    defers = ("fit", "evaluate")

    def __init__(self, config, env) -> None:
        super().__init__(config, env)
        self.ran: list[str] = []
        self.log: list[str] = []
        #: What work in progress keeps alive, while nobody else may come in.
        self.under_way: list[weakref.ref[Any]] = []

    def _called(self, method, ctx) -> None:
        self.under_way = [one for one in self.under_way if one() is not None]
        assert not self.under_way or self.reentrant, f"{method} came in while work runs"
        self.log.append(method)
        super()._called(method, ctx)

    def later(self, ctx, fn, commit) -> Any:
        token = _Token()
        self.under_way.append(weakref.ref(token))

        def work(_: Any) -> Any:
            self.ran.append(threading.current_thread().name)
            if self.config.fail_in == "work":
                raise ValueError("the work was told to fail")
            if self.config.interrupt_in == "work":
                raise KeyboardInterrupt
            return fn()

        return ctx.defer(work, token, commit=commit)

    def fit(self, ctx, batches) -> Any:
        self._called("fit", ctx)
        total = sum(float(np.sum(x)) for x, _ in batches)

        def commit(value: float) -> Mapping[str, Any]:
            self.log.append("commit")
            if self.config.fail_in == "commit":
                raise ValueError("the commit was told to fail")
            if self.config.interrupt_in == "commit":
                raise KeyboardInterrupt
            self.w = self.w + value
            return {"examples": batches.examples, "loss": value}

        return self.later(ctx, lambda: total, commit)

    def evaluate(self, ctx, batches) -> Any:
        self._called("evaluate", ctx)
        now = float(self.w[0])
        return self.later(ctx, lambda: {"examples": batches.examples, "loss": now}, None)


class _Token:
    pass


class Sharing(Slow):
    """The same, and reads may overlap."""

    reentrant = True


class Train(bb.Module):
    """Trains, and publishes what came of it."""

    peer_class = "peer"
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def body(self, g: bb.Graph) -> None:
        metrics = self.model.fit(g, self.data.batches(g))
        g.output("loss", metrics["loss"])
        g.output("w", self.model.params(g))


class Events(bb.Module):
    """Trains or measures as often as it is told, each time in a frame of its own."""

    peer_class = "peer"
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def body(self, g: bb.Graph) -> None:
        with g.on("fit", overlap="parallel"):
            metrics = self.model.fit(g, self.data.batches(g))
            g.output("fit", metrics["loss"])
            g.output("w", self.model.params(g))
        with g.on("measure", overlap="parallel"):
            metrics = self.model.evaluate(g, self.data.batches(g))
            g.output("measured", metrics["loss"])
        with g.on("look", overlap="parallel"):
            g.output("seen", self.model.params(g))
        with g.on("draw", overlap="parallel"):
            self.data.reset(g)
            g.output("drawn", self.data.batches(g))


def train(compiled, model: type = Slow, **config: Any) -> Stage:
    config = {"model": config, "data": {"value": 1.0}}
    return Stage(compiled(Train(), model=model), config=config)


def events(compiled, model: type = Slow, module: bb.Module | None = None, **parts: type) -> Stage:
    artifact = compiled(module or Events(), model=model, **parts)
    stage = Stage(artifact, config={"data": {"value": 1.0}})
    stage.run()
    stage.wire.steps.clear()
    return stage


def tell(stage: Stage, *topics: str) -> None:
    for topic in topics:
        assert stage.server.publish(topic) == 1
        stage.wire.poll()


def is_idle(node: Node) -> bool:
    """Nothing is left of any frame or work."""
    engine = node._engine
    return not engine.frames and engine.slots.idle and not engine.works.open and not node.deferring


def weights(stage: Stage, name: str = "w") -> list[float]:
    return [float(value["w"][0]) for value in stage.wire.outputs(name)]


# ---- one op


def test_an_op_waits_for_its_work(compiled):
    stage = train(compiled)
    frame = stage.invoke()

    [work] = stage.wire.works
    assert (work.target, work.op, work.slot, work.frame) == ("Train", "Fit", "model", frame)
    assert stage.wire.outputs("loss") == []
    assert stage.server.deferring

    stage.wire.do()

    assert stage.wire.outputs("loss") == [3.0]
    assert weights(stage) == [3.0]
    assert stage.end_of(frame).how == "done"
    assert is_idle(stage.server)


def test_work_is_done_wherever_the_host_likes_and_committed_by_the_engine(compiled):
    stage = train(compiled)
    stage.invoke()
    model = stage.server.component("model")

    thread = threading.Thread(target=stage.wire.works.pop().run, name="worker")
    thread.start()
    thread.join()
    assert model.ran == ["worker"]
    assert model.log == ["fit"]
    assert model.w[0] == 0.0

    stage.wire.poll()
    assert model.log == ["fit", "commit", "params"]
    assert weights(stage) == [3.0]


def test_work_is_done_once(compiled):
    stage = train(compiled)
    stage.invoke()
    [work] = stage.wire.works
    work.run()
    work.run()
    stage.wire.run()

    assert len(stage.server.component("model").ran) == 1
    assert weights(stage) == [3.0]
    assert stage.server.counters == {}


class AtOnce(Slow):
    def fit(self, ctx, batches) -> Any:
        return {"examples": 1, "loss": 7.0}


def test_a_method_that_may_defer_need_not(compiled):
    stage = train(compiled, AtOnce)
    frame = stage.invoke()
    assert stage.wire.works == []
    assert stage.wire.outputs("loss") == [7.0]
    assert stage.end_of(frame).how == "done"
    assert is_idle(stage.server)


class Pair(Index):
    """An index whose search has two results."""

    Config = PartConfig
    defers = ("search",)
    results: Any = ("ids", "distances")

    def add(self, ctx, vectors): ...
    def remove(self, ctx, ids): ...

    def search(self, ctx, queries, *, k=10):
        return ctx.defer(lambda: type(self).results)


class Search(bb.Module):
    """Searches, and publishes one of two results, or both."""

    peer_class = "peer"
    index = bb.slots.Index()

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names

    def body(self, g: bb.Graph) -> None:
        found = self.index.search(g, g.input("queries"), k=3)
        for name, value in zip(("ids", "distances"), found, strict=True):
            if name in self.names:
                g.output(name, value)


@pytest.mark.parametrize("names", [("ids", "distances"), ("distances",), ()])
def test_an_op_with_several_results_stores_those_that_are_read(compiled, names):
    stage = Stage(compiled(Search(*names), index=Pair))
    stage.run(queries=1)

    assert {name: stage.wire.outputs(name) for name in names} == {name: [name] for name in names}
    assert stage.wire.failures() == []
    assert is_idle(stage.server)


@pytest.mark.parametrize("results", [("one",), ("one", "two", "three"), 5])
def test_results_of_another_number_fail_the_frame(compiled, monkeypatch, results):
    monkeypatch.setattr(Pair, "results", results)
    stage = Stage(compiled(Search("ids"), index=Pair))
    stage.run(queries=1)

    [failure] = stage.wire.failures()
    assert isinstance(failure.error, OpError)
    returned = "int" if results == 5 else f"{len(results)} value"
    assert f"Search of slot 'index' returned {returned}" in str(failure.error)
    assert is_idle(stage.server)


# ---- what goes wrong in it


def line_of(text: str) -> int:
    with open(__file__) as file:  # noqa: PTH123
        return next(n for n, line in enumerate(file, 1) if line.strip() == text)


@pytest.mark.parametrize("part", ["work", "commit"])
def test_a_failure_names_the_users_line_and_the_components(compiled, part):
    stage = train(compiled, fail_in=part)
    frame = stage.run()

    [failure] = stage.wire.failures()
    assert str(failure.error) == f"the {part} was told to fail"
    assert (failure.op, failure.slot, failure.frame) == ("Fit", "model", frame)
    assert failure.source is not None
    assert failure.source.line == line_of("metrics = self.model.fit(g, self.data.batches(g))")
    assert failure.place is not None
    assert failure.place.file == __file__
    assert failure.place.line == line_of(f'raise ValueError("the {part} was told to fail")')
    assert f"the {part} was told to fail" in failure.trace
    assert failure.error.__traceback__ is None
    assert stage.end_of(frame) == FrameEnded("Train", "main", frame, "failed", "ValueError")
    assert weights(stage) == []
    assert is_idle(stage.server)


def test_a_failure_in_work_leaves_the_component_to_others(compiled):
    stage = train(compiled, fail_in="work")
    stage.run()
    stage.run()

    assert len(stage.wire.failures()) == 2
    assert stage.server.component("model").w[0] == 0.0


@pytest.mark.parametrize("part", ["work", "commit"])
def test_what_is_no_exception_passes_through_poll_and_breaks_the_node(compiled, part):
    stage = train(compiled, interrupt_in=part)
    stage.invoke()
    stage.wire.works.pop().run()

    with pytest.raises(KeyboardInterrupt):
        stage.server.poll()
    with pytest.raises(NodeBroken):
        stage.server.poll()
    with pytest.raises(NodeBroken):
        stage.server.invoke("Train")


class Secret(Slow):
    defers = ("evaluate",)


def test_work_that_is_not_declared_is_an_error_that_says_what_to_declare(compiled):
    stage = train(compiled, Secret)
    stage.run()

    [failure] = stage.wire.failures()
    assert "the method of op Fit defers work, which its component does not declare" in str(
        failure.error
    )
    assert "`defers`" in str(failure.error)
    assert is_idle(stage.server)


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ("fit", "has defers = 'fit'"),
        (("fitt",), "did you mean 'fit'?"),
        (("fit", "levitate"), "has 'levitate' in `defers` and no such method"),
    ],
)
def test_what_is_declared_must_be_methods(compiled, monkeypatch, declared, says):
    artifact = compiled(Train(), model=Slow)
    monkeypatch.setattr(Slow, "defers", declared)
    with pytest.raises(ConstructionFailed, match="slot 'model'") as caught:
        Stage(artifact)
    assert says in str(caught.value)


class Forgets(Slow):
    def fit(self, ctx, batches) -> Any:
        super().fit(ctx, batches)


def test_work_must_be_returned(compiled):
    stage = train(compiled, Forgets)
    stage.run()

    [failure] = stage.wire.failures()
    assert "the method of op Fit deferred work and returned NoneType" in str(failure.error)
    assert "return ctx.defer(...)" in str(failure.error)
    assert failure.source is not None
    assert stage.wire.works == []
    assert is_idle(stage.server)


class Twice(Slow):
    def fit(self, ctx, batches) -> Any:
        ctx.defer(int)
        return ctx.defer(int)


def test_a_call_defers_once(compiled):
    stage = train(compiled, Twice)
    stage.run()

    [failure] = stage.wire.failures()
    assert "deferred 2 pieces of work" in str(failure.error)
    assert is_idle(stage.server)


class Again(Slow):
    kept: Any = None

    def fit(self, ctx, batches) -> Any:
        if self.kept is None:
            self.kept = super().fit(ctx, batches)
        return self.kept


def test_work_of_another_call_is_refused(compiled):
    stage = train(compiled, Again)
    stage.run()
    stage.run()

    assert weights(stage) == [3.0]
    [failure] = stage.wire.failures()
    assert "returned work that another call had deferred" in str(failure.error)
    assert is_idle(stage.server)


class Keeps(Slow):
    def fit(self, ctx, batches) -> Any:
        return ctx.defer(int, commit=lambda _: ctx.defer(int))


def test_a_context_is_good_for_its_call_only(compiled):
    stage = train(compiled, Keeps)
    stage.run()

    [failure] = stage.wire.failures()
    assert "use a context during its call only" in str(failure.error)
    assert is_idle(stage.server)


def test_work_under_way_is_bounded(compiled):
    artifact = compiled(Events(), model=Sharing)
    stage = Stage(artifact, options=Options(max_deferred=2))
    stage.run()
    tell(stage, "measure", "measure", "measure")

    assert len(stage.wire.works) == 2
    [failure] = stage.wire.failures()
    assert "2 pieces of deferred work are under way" in str(failure.error)
    assert "Options.max_deferred" in str(failure.error)

    stage.wire.run()
    tell(stage, "measure", "measure")
    stage.wire.run()
    assert len(stage.wire.outputs("measured")) == 4
    assert is_idle(stage.server)


# ---- devices


class Device(CountingModel):
    """Hands its work to a device that calls back."""

    defers = ("fit",)

    def __init__(self, config, env) -> None:
        super().__init__(config, env)
        self.handles: list[Any] = []

    def fit(self, ctx, batches) -> Any:
        self._called("fit", ctx)
        handle = ctx.external(commit=lambda value: {"examples": 1, "loss": value})
        self.handles.append(handle)
        return handle


def device(compiled) -> tuple[Stage, Any]:
    stage = train(compiled, Device)
    stage.invoke()
    assert stage.wire.works == []
    return stage, stage.server.component("model").handles.pop()


def test_a_device_completes_from_its_thread(compiled):
    stage, handle = device(compiled)
    thread = threading.Thread(target=handle.complete, args=(5.0,))
    thread.start()
    thread.join()
    stage.wire.run()

    assert stage.wire.outputs("loss") == [5.0]
    assert is_idle(stage.server)


class Quick(Device):
    def fit(self, ctx, batches) -> Any:
        handle = super().fit(ctx, batches)
        handle.complete(6.0)
        return handle


def test_a_device_may_answer_before_the_method_returns(compiled):
    stage = train(compiled, Quick)
    stage.run()

    assert stage.wire.outputs("loss") == [6.0]
    assert is_idle(stage.server)


def test_a_device_fails(compiled):
    stage, handle = device(compiled)
    handle.fail(OSError("no power"))
    handle.complete(1.0)
    stage.wire.run()

    [failure] = stage.wire.failures()
    assert str(failure.error) == "no power"
    assert failure.source is not None
    assert stage.wire.outputs("loss") == []
    assert is_idle(stage.server)


def test_a_device_fails_with_an_exception_only(compiled):
    stage, handle = device(compiled)
    with pytest.raises(OpError, match="expected: an Exception"):
        handle.fail("no power")
    handle.complete(1.0)
    stage.wire.run()
    assert stage.wire.outputs("loss") == [1.0]


def test_the_first_of_many_completions_counts(compiled):
    stage, handle = device(compiled)
    start = threading.Barrier(8)

    def complete(value: float) -> None:
        start.wait()
        handle.complete(value)

    threads = [threading.Thread(target=complete, args=(float(n),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(stage.server.inbox) == 1
    stage.wire.run()
    assert len(stage.wire.outputs("loss")) == 1
    assert stage.server.counters == {}
    assert is_idle(stage.server)


def test_a_handle_that_is_lost_fails(compiled):
    stage, handle = device(compiled)
    del handle
    gc.collect()
    stage.wire.run()

    [failure] = stage.wire.failures()
    assert "its handle was dropped" in str(failure.error)
    assert is_idle(stage.server)


class Loses(Device):
    def fit(self, ctx, batches) -> Any:
        super().fit(ctx, batches)


def test_a_handle_that_was_never_returned_leaves_nothing(compiled):
    stage = train(compiled, Loses)
    stage.run()
    stage.server.component("model").handles.clear()
    gc.collect()
    stage.wire.run()

    [failure] = stage.wire.failures()
    assert "deferred work and returned NoneType" in str(failure.error)
    assert is_idle(stage.server)


# ---- what is not wanted any more


def test_work_that_comes_too_late_is_dropped_and_leaves_no_trace(compiled):
    stage = train(compiled)
    frame = stage.invoke()
    [work] = stage.wire.works
    model = stage.server.component("model")

    stage.wire.advance(61 * SECOND)
    assert stage.end_of(frame).how == "expired"
    assert not is_idle(stage.server)  # the component is not free yet
    stage.wire.do()

    assert work.frame == frame
    assert stage.server.counters == {"late_completions": 1}
    assert model.ran == []  # nobody wanted it any more when its turn came
    assert "commit" not in model.log
    assert weights(stage) == []
    assert is_idle(stage.server)


class Waiting(Slow):
    """Waits in the middle of its work, until it is told to go on."""

    begun, go = threading.Event(), threading.Event()

    def fit(self, ctx, batches) -> Any:
        def work() -> float:
            self.ran.append("worker")
            self.begun.set()
            assert self.go.wait(10)
            return 3.0

        self._called("fit", ctx)
        return self.later(ctx, work, lambda _: self.log.append("commit"))


def test_work_that_was_begun_in_time_and_ends_late_is_not_committed(compiled):
    stage = train(compiled, Waiting)
    stage.invoke()
    model = stage.server.component("model")
    thread = threading.Thread(target=stage.wire.works.pop().run)
    thread.start()
    assert model.begun.wait(10)
    stage.wire.advance(61 * SECOND)
    model.go.set()
    thread.join()
    stage.wire.run()

    assert len(model.ran) == 2
    assert "commit" not in model.log
    assert model.w[0] == 0.0
    assert stage.server.counters == {"late_completions": 1}
    assert is_idle(stage.server)


def test_a_component_is_busy_until_unwanted_work_has_come_back(compiled):
    """The next frame waits for it, and then goes on."""
    stage = train(compiled)
    first = stage.invoke()
    stage.wire.advance(61 * SECOND)
    assert stage.end_of(first).how == "expired"

    second = stage.invoke()
    assert len(stage.wire.works) == 1
    stage.wire.do()
    assert len(stage.wire.works) == 1
    stage.wire.do()

    assert stage.end_of(second).how == "done"
    assert weights(stage) == [3.0]
    assert is_idle(stage.server)


def test_what_came_in_before_a_jump_of_the_clock_is_in_time(compiled):
    stage = train(compiled)
    frame = stage.invoke()
    stage.wire.works.pop().run()

    stage.wire.advance(61 * SECOND)

    assert stage.end_of(frame).how == "done"


def test_a_step_that_the_host_lost_keeps_nothing_busy_for_ever(compiled):
    stage = train(compiled)
    stage.invoke()
    stage.wire.works.clear()
    stage.wire.advance(61 * SECOND)
    gc.collect()
    frame = stage.run()

    assert stage.end_of(frame).how == "done"
    assert is_idle(stage.server)


class Both(bb.Module):
    peer_class = "peer"
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def body(self, g: bb.Graph) -> None:
        self.model.fit(g, self.data.batches(g))
        self.data.reset(g)


def test_work_of_a_frame_that_failed_otherwise_is_cancelled(compiled):
    config = {"data": {"value": 1.0, "fail_in": "reset"}}
    stage = Stage(compiled(Both(), model=Slow), config=config)
    frame = stage.invoke()
    model = stage.server.component("model")

    assert stage.end_of(frame).how == "failed"
    assert "abandon" not in model.log  # it is in the middle of something
    stage.wire.run()

    assert model.ran == []
    assert model.log == ["fit", "abandon"]
    assert is_idle(stage.server)


def test_abandon_comes_before_what_the_next_frame_does(compiled):
    stage = train(compiled)
    stage.invoke()
    stage.wire.advance(61 * SECOND)
    stage.invoke()
    stage.wire.run()

    assert stage.server.component("model").log == ["fit", "abandon", "fit", "commit", "params"]


# ---- who may use a component


def test_frames_use_a_component_in_order_of_arrival(compiled):
    stage = events(compiled)
    tell(stage, "fit", "look", "fit", "look")
    assert len(stage.wire.works) == 1
    assert weights(stage, "seen") == []
    stage.wire.do()
    assert weights(stage, "seen") == [3.0]
    stage.wire.do()

    assert weights(stage) == [3.0, 6.0]
    assert weights(stage, "seen") == [3.0, 6.0]
    assert is_idle(stage.server)


def test_ops_of_other_slots_go_on_meanwhile(compiled):
    stage = events(compiled)
    tell(stage, "fit")
    stage.server.publish("draw")
    stage.wire.poll()

    assert len(stage.wire.outputs("drawn")) == 1
    assert len(stage.wire.works) == 1
    stage.wire.run()
    assert is_idle(stage.server)


def test_reads_that_defer_exclude_each_other(compiled):
    stage = events(compiled)
    tell(stage, "measure", "measure", "look")
    assert len(stage.wire.works) == 1
    stage.wire.run()

    assert stage.wire.outputs("measured") == [0.0, 0.0]
    assert is_idle(stage.server)


def test_reads_of_a_reentrant_component_run_together(compiled):
    stage = events(compiled, Sharing)
    tell(stage, "measure", "measure", "look")
    assert len(stage.wire.works) == 2
    assert weights(stage, "seen") == [0.0]

    tell(stage, "fit", "measure", "look")  # a write waits, and nobody overtakes it
    assert len(stage.wire.works) == 2
    stage.wire.do(1)
    stage.wire.do(0)
    assert [work.op for work in stage.wire.works] == ["Fit"]
    stage.wire.run()

    assert stage.wire.outputs("measured") == [0.0, 0.0, 3.0]
    assert weights(stage, "seen") == [0.0, 3.0]
    assert is_idle(stage.server)


class Leaning(CountingModel):
    """Calls the model on which it depends."""

    depends: ClassVar = {"model": Model}

    def evaluate(self, ctx, batches) -> Any:
        self._called("evaluate", ctx)
        below = self.env.dependencies["model"].params(ctx)
        return {"examples": 1, "loss": float(below["w"][0])}


class Leans(Events):
    """The same, and a second model that depends on the first."""

    upper = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        super().body(g)
        with g.on("both", overlap="parallel"):
            self.model.fit(g, self.data.batches(g))
            metrics = self.upper.evaluate(g, self.data.batches(g))
            g.output("both", metrics["loss"])
        with g.on("upper", overlap="parallel"):
            metrics = self.upper.evaluate(g, self.data.batches(g))
            g.output("upper", metrics["loss"])


def test_what_a_component_depends_on_is_held_too(compiled):
    stage = events(compiled, module=Leans(), upper=Leaning)
    tell(stage, "fit", "upper")
    assert stage.wire.outputs("upper") == []
    stage.wire.run()

    assert stage.wire.outputs("upper") == [3.0]
    assert is_idle(stage.server)


def test_what_a_component_depends_on_is_not_called_while_the_same_frame_works_on_it(compiled):
    stage = events(compiled, module=Leans(), upper=Leaning)
    tell(stage, "both")
    assert stage.wire.outputs("both") == []
    stage.wire.run()

    assert stage.wire.outputs("both") == [3.0]
    assert stage.wire.failures() == []
    assert is_idle(stage.server)


class Reads(bb.Module):
    """Deferred and plain reads of one slot, in one frame, linked by nothing."""

    peer_class = "peer"
    model = bb.slots.Model()
    other = bb.slots.Model()
    data = bb.slots.DataSource()

    def __init__(self, *, behind: bool) -> None:
        super().__init__()
        self.behind = behind

    def body(self, g: bb.Graph) -> None:
        batches = self.data.batches(g)
        if self.behind:
            # This read waits for work of another slot, the deferred one after it need not.
            theirs = self.other.evaluate(g, batches)
            g.output("first", self.model.forward(g, theirs["loss"]))
        metrics = self.model.evaluate(g, batches)
        g.output("w", self.model.params(g))
        g.output("loss", metrics["loss"])


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("first", [0, -1])
def test_reads_of_one_frame_keep_their_order_and_never_overlap(compiled, behind, first):
    artifact = compiled(Reads(behind=behind), model=Slow, other=Slow)
    stage = Stage(artifact, config={"data": {"value": 1.0}})
    stage.invoke()
    model = stage.server.component("model")
    while stage.wire.works:
        stage.wire.do(first)

    assert model.log == [*(["forward"] if behind else []), "evaluate", "params"]
    assert stage.wire.failures() == []
    assert is_idle(stage.server)


def test_a_frame_in_line_has_a_deadline_although_its_own_ops_never_wait(compiled):
    stage = events(compiled)
    tell(stage, "fit", "look")
    stage.wire.advance(61 * SECOND)

    ends = [(end.region, end.how) for end in stage.wire.ended()]
    assert sorted(end for _, end in ends) == ["expired", "expired"]
    stage.wire.run()
    assert stage.wire.outputs("seen") == []
    assert is_idle(stage.server)


# ---- messages


class Ask(bb.Module):
    """Every peer is both: it asks a neighbour to train, and trains when it is asked."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    aggregator = bb.slots.Aggregator()

    def body(self, g: bb.Graph) -> None:
        self.model.fit(g, self.data.batches(g))
        got = g.net_out("weights", self.peers.current_view(g), self.model.params(g))
        self.model.load_params(g, got)
        metrics = self.model.fit(g, self.data.batches(g))
        reply = g.net_out("update", g.sender(got), self.model.params(g), metrics)
        done = g.gather(self.aggregator.contribute(g, *reply))
        averaged, _ = self.aggregator.aggregate(g, after=done)
        self.model.load_params(g, averaged)
        self.model.fit(g, self.data.batches(g))
        g.output("w", self.model.params(g))


class SlowSum(SumAggregator):
    """Defers what it folds."""

    defers = ("contribute", "aggregate")

    def contribute(self, ctx, params, metrics) -> Any:
        fold = super().contribute
        return ctx.defer(lambda: None, commit=lambda _: fold(ctx, params, metrics))

    def aggregate(self, ctx) -> Any:
        end = super().aggregate
        return ctx.defer(lambda: None, commit=lambda _: end(ctx))


def peers_of_both_classes(artifact: Any, view: Callable[[int], list[int]]) -> list[Node]:
    """Return two Nodes that run both targets; `view` says whom each of them asks."""
    ids = [PeerId.from_seed(b"both", n) for n in range(2)]
    names = [target.short for target in artifact.targets.values()]
    return [
        install(
            ids[n], [], artifact, names,
            {"peers": {"peers": tuple(ids[m] for m in view(n))}, "data": {"value": 1.0}},
        )
        for n in range(2)
    ]  # fmt: skip


@pytest.mark.parametrize("view", [lambda n: [1 - n], lambda n: [n], lambda _: [0, 1]])
@pytest.mark.parametrize("last", [0, -1])
def test_nothing_is_held_while_a_frame_waits_for_messages(compiled, view, last):
    """Nodes that ask each other, or themselves, with one model for both classes, all end."""
    artifact = compiled(Ask(), model=Slow)
    nodes = peers_of_both_classes(artifact, view)
    wire = Wire(*nodes)
    frames = [node.invoke("Ask") for node in nodes for _ in range(2)]
    wire.poll()
    while wire.works or wire.flying:
        if wire.works:
            wire.do(last)
        else:
            wire.deliver(last)

    assert wire.failures() == []
    assert len(wire.outputs("w")) == len(frames)
    assert all(map(is_idle, nodes))


def test_replies_whose_handling_is_deferred_are_gathered(compiled):
    artifact = compiled(Ask(), model=Slow, aggregator=SlowSum)
    stage = Stage(artifact, clients=5, config={"data": {"value": 1.0}})
    frame = stage.run()

    assert stage.wire.failures() == []
    assert stage.end_of(frame).how == "done"
    assert weights(stage) == [3.0 + 3.0 + 3.0]
    aggregator = stage.server.component("aggregator")
    assert aggregator.methods == [*["contribute"] * 5, "aggregate", "abandon"]
    assert all(map(is_idle, [stage.server, *stage.clients]))


class Picky(SlowSum):
    def contribute(self, ctx, params, metrics) -> Any:
        if metrics["loss"] > 3.0:
            return ctx.defer(lambda: 1 // 0)
        return super().contribute(ctx, params, metrics)


def test_a_child_whose_work_fails_does_not_reach_the_gather(compiled):
    artifact = compiled(Ask(), model=Slow, aggregator=Picky)
    each = {1: {"data": {"value": 2.0}}}
    stage = Stage(artifact, clients=3, config={"data": {"value": 1.0}}, each=each)
    frame = stage.run()

    assert [type(one.error).__name__ for one in stage.wire.failures()] == [
        "ZeroDivisionError",
        "QuorumNotMet",
    ]
    assert stage.end_of(frame).how == "failed"
    assert all(map(is_idle, [stage.server, *stage.clients]))


# ---- blocks


class Blocks(bb.Module):
    """Trains in turns, then in rounds that run side by side."""

    peer_class = "peer"
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def body(self, g: bb.Graph) -> None:
        with g.loop(3) as turn:
            loss = self.model.fit(g, self.data.batches(g))["loss"]
            with g.when(turn > 1):
                g.output("late", self.model.evaluate(g, self.data.batches(g))["loss"])
        g.output("last", g.last(loss))
        g.output("w", self.model.params(g))
        with g.rounds(4, width=3):
            self.model.fit(g, self.data.batches(g))
            g.output("round", self.model.params(g))


@pytest.mark.parametrize("model", [CountingModel, Slow, Sharing])
@pytest.mark.parametrize("last", [0, -1])
def test_blocks_give_the_same_with_deferred_work(compiled, model, last):
    stage = Stage(compiled(Blocks(), model=model), config={"data": {"value": 1.0}})
    stage.invoke()
    while stage.wire.works:
        stage.wire.do(last)

    assert stage.wire.failures() == []
    assert weights(stage) == [9.0]
    assert stage.wire.outputs("late") == [6.0, 9.0]
    assert stage.wire.outputs("last") == [3.0]
    assert sorted(weights(stage, "round")) == [12.0, 15.0, 18.0, 21.0]
    assert is_idle(stage.server)


# ---- the bus


def federation(artifact: Any, clients: int) -> list[Node]:
    ids = [PeerId.from_seed(b"bus", n) for n in range(clients + 1)]
    names = [target.short for target in artifact.targets.values()]
    config: dict[str, Any] = {"peers": {"peers": tuple(ids[1:])}, "data": {"value": 1.0}}
    own = {name: config[name] for name in ("data",)}
    server = install(ids[0], [], artifact, names[:1], {**own, "peers": config["peers"]})
    return [server, *(install(one, [], artifact, names[1:], own) for one in ids[1:])]


class Meeting(Slow):
    """Two of it must be at work at the same time, or none gets done."""

    barrier = threading.Barrier(2)

    def fit(self, ctx, batches) -> Any:
        def work(total: float) -> float:
            Meeting.barrier.wait(20)
            return total

        total = sum(float(np.sum(x)) for x, _ in batches)
        return ctx.defer(work, total, commit=lambda v: {"examples": 1, "loss": v})


class OnlyClients(bb.Module):
    """One fit per client, and none on the server."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def body(self, g: bb.Graph) -> None:
        got = g.net_out("go", self.peers.current_view(g))
        metrics = self.model.fit(g, self.data.batches(g, after=got))
        reply = g.net_out("done", g.sender(got), metrics)
        done = g.gather(reply, values=True)
        g.output("all", done.values)


def test_work_of_two_nodes_overlaps_on_an_executor(compiled):
    nodes = federation(compiled(OnlyClients(), model=Meeting), 2)
    with ThreadPoolExecutor(2) as executor:
        bus = LocalBus(*nodes, executor=executor)
        nodes[0].invoke("OnlyClients")
        steps = [event.step for event in bus.run()]

    [every] = [step.value for step in steps if getattr(step, "name", "") == "all"]
    assert [one["loss"] for one in every] == [3.0, 3.0]
    assert all(map(is_idle, nodes))


def test_an_executor_changes_no_result(compiled):
    artifact = compiled(Ask(), model=Slow, aggregator=SlowSum)
    found: list[Any] = []
    with ThreadPoolExecutor(2) as executor:
        for one in (None, executor):
            nodes = federation(artifact, 4)
            bus = LocalBus(*nodes, executor=one)
            for _ in range(3):
                nodes[0].invoke("Ask")
            events = bus.run()
            values = [e.step.value["w"].tolist() for e in events if hasattr(e.step, "value")]
            found.append((values, [float(n.component("model").w[0]) for n in nodes]))
            assert all(map(is_idle, nodes))

    assert len(found[0][0]) == 3
    assert found[0] == found[1]


def test_the_bus_waits_for_devices_instead_of_letting_time_pass(compiled):
    [node] = [train(compiled, Device).server]
    bus = LocalBus(node)
    frame = node.invoke("Train")
    assert bus.run(time=False) == []
    timer = threading.Timer(0.05, node.component("model").handles.pop().complete, args=(4.0,))
    timer.start()
    events = bus.run()
    timer.join()

    assert [e.step.value for e in events if getattr(e.step, "name", "") == "loss"] == [4.0]
    assert events[-1].step == FrameEnded("Train", "main", frame, "done", "")
    assert node.now_ns == 0


def test_an_executor_that_does_not_do_its_work_is_reported(compiled):
    node = train(compiled).server
    release = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        blocker = executor.submit(release.wait, 10)
        node.invoke("Train")
        bus = LocalBus(node, executor=executor)
        bus._do(next(step for step in node.poll() if hasattr(step, "run")))
        executor.shutdown(wait=False, cancel_futures=True)
        release.set()
        with pytest.raises(DeliveryError, match="it was cancelled"):
            bus.run()
        assert blocker.result()


# ---- everything at once


TOPICS = st.sampled_from(["fit", "measure", "look", "draw", "both", "upper"])
#: Start a frame, do a piece of work, or let deadlines pass.
ACTS = st.one_of(TOPICS, st.integers(0, 7), st.just("time"))


class Failing(Slow):
    """Fails in some of its fits; which, a test says."""

    failing: frozenset[int] = frozenset()
    number = 0

    def fit(self, ctx, batches) -> Any:
        self.number += 1
        if self.number not in self.failing:
            return super().fit(ctx, batches)
        self._called("fit", ctx)
        return self.later(ctx, lambda: 1 // 0, None)


class FailingSharing(Failing):
    """The same, and reads may overlap."""

    reentrant = True


@pytest.fixture(scope="module")
def leaning(compiled) -> dict[type, Any]:
    return {
        model: compiled(Leans(), model=model, upper=Leaning) for model in (Failing, FailingSharing)
    }


@given(
    acts=st.lists(ACTS, max_size=40),
    failing=st.frozensets(st.integers(1, 6), max_size=3),
    model=st.sampled_from([Failing, FailingSharing]),
)
@settings(deadline=None)
def test_any_schedule_ends_well(leaning, acts, failing, model):
    """Frames in any order, work done in any order, failing, or cancelled by deadlines.

    `Slow` itself asserts that calls into it never overlap. The model ends with what was committed,
    every frame ends once and sees all commits before it, and nothing is held when all is done.
    """
    stage = Stage(leaning[model], config={"data": {"value": 1.0}})
    component = stage.server.component("model")
    component.failing = failing
    stage.run()
    stage.wire.steps.clear()
    begun = 0
    for act in acts:
        if act == "time":
            stage.wire.advance(3601 * SECOND)
        elif isinstance(act, str):
            tell(stage, act)
            begun += 1
        elif act < len(stage.wire.works):
            stage.wire.do(act)
    stage.wire.run()

    ends = stage.wire.ended()
    assert len(ends) == len({end.frame for end in ends}) == begun
    failed = {type(one.error) for one in stage.wire.failures()}
    assert failed <= {ZeroDivisionError, Quarantined if "time" in acts else ZeroDivisionError}
    stuck = [step.stuck for _, step in stage.wire.steps if isinstance(step, ComponentStuck)]
    assert stuck == [True, False] * (len(stuck) // 2), "whoever was stuck came back"
    assert component.w[0] == 3.0 * component.log.count("commit")
    assert weights(stage) == sorted(weights(stage))
    if "time" not in acts and not failing:
        assert _of_each_kind(stage) == _one_by_one(leaning[model], acts)
    assert is_idle(stage.server)


def _of_each_kind(stage: Stage) -> list[list[Any]]:
    values = [stage.wire.outputs(name) for name in ("measured", "upper", "fit", "both")]
    return [*map(sorted, values), weights(stage), sorted(weights(stage, "seen"))]


def _one_by_one(artifact: Any, acts: list[Any]) -> list[list[Any]]:
    """Return what comes of the same frames when all work is done before the next one starts."""
    stage = Stage(artifact, config={"data": {"value": 1.0}})
    stage.run()
    for act in acts:
        if isinstance(act, str):
            tell(stage, act)
            stage.wire.run()
    return _of_each_kind(stage)


class SlowSource(ListSource):
    defers = ("reset",)

    def reset(self, ctx) -> Any:
        return ctx.defer(lambda: None)


def test_a_data_source_is_held_no_longer_than_it_is_used(compiled):
    """A frame gives each component back after its last op on it, not at its end."""

    stage = events(compiled, data=SlowSource)
    tell(stage, "fit", "draw")

    assert [work.op for work in stage.wire.works] == ["Fit", "Reset"]
    stage.wire.run()
    assert is_idle(stage.server)
