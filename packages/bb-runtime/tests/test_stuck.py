"""Work that ignores that nobody wants it: its component is told of, and nobody waits for it."""

from typing import Any, ClassVar

import numpy as np
import pytest

import bb_dsl as bb
from bb_roles import Index, Model
from bb_runtime import ComponentStuck, Deferred, Node, Options, install
from bb_runtime.errors import NodeBusy, Quarantined
from bb_runtime.replay import replay
from bb_testing.programs import CountingModel, PartConfig, Stage

SECOND = 10**9
SOON = Options(stuck_after_ns=10 * SECOND)


class Slow(CountingModel):
    """Defers `fit` and `evaluate`."""

    defers = ("fit", "evaluate")

    def fit(self, ctx, batches) -> Any:
        return ctx.defer(lambda: {"examples": 1, "loss": 1.0})

    def evaluate(self, ctx, batches) -> Any:
        return ctx.defer(lambda: {"examples": 1, "loss": 2.0})


class Sharing(Slow):
    """The same, and reads may overlap."""

    reentrant = True


class Leaning(Index):
    """Uses the model."""

    Config = PartConfig
    depends: ClassVar = {"model": Model}

    def add(self, ctx, vectors): ...
    def remove(self, ctx, ids): ...

    def search(self, ctx, queries, *, k=10):
        return np.zeros((1, k)), np.zeros((1, k))


class Program(bb.Module):
    """Does one thing per event."""

    peer_class = "peer"
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    other = bb.slots.DataSource()
    index = bb.slots.Index()

    def body(self, g: bb.Graph) -> None:
        with g.on("fit", overlap="parallel"):
            g.output("loss", self.model.fit(g, self.data.batches(g))["loss"])
        with g.on("measure", overlap="parallel"):
            g.output("measured", self.model.evaluate(g, self.data.batches(g))["loss"])
        with g.on("look", overlap="parallel"):
            self.other.reset(g)
            g.output("seen", self.model.params(g))
        with g.on("search", overlap="parallel") as query:
            self.other.reset(g)
            g.output("found", self.index.search(g, query, k=1)[0])
        with g.on("other", overlap="parallel"):
            self.other.reset(g)
            g.output("other", self.other.batches(g))


@pytest.fixture
def stage(compiled):
    def make(model: type = Slow, options: Options = SOON) -> Stage:
        s = Stage(
            compiled(Program(), model=model, index=Leaning),
            config={"data": {"value": 1.0}},
            options=options,
        )
        s.run()
        s.wire.steps.clear()
        return s

    return make


def tell(s: Stage, *topics: str) -> None:
    for topic in topics:
        assert s.server.publish(topic, 1) == 1
        s.wire.poll()


def give_up(s: Stage, *topics: str) -> None:
    """Start frames, and let their deadlines pass."""
    tell(s, *topics)
    frames = [f for f in s.server._engine.frames.values() if f.works]
    s.wire.advance(max(f.deadline_ns for f in frames) - s.server.now_ns)
    assert not s.server.deferring


def stuck_steps(s: Stage) -> list[ComponentStuck]:
    return [step for _, step in s.wire.steps if isinstance(step, ComponentStuck)]


def test_work_that_does_not_come_back_is_told_of(stage):
    s = stage()
    give_up(s, "fit")
    [ended] = s.wire.ended()
    assert s.server.next_wakeup() == s.server.now_ns + 10 * SECOND
    s.wire.advance(10 * SECOND - 1)
    assert stuck_steps(s) == []
    s.wire.advance(1)

    slow = f"{Slow.__module__}:Slow"
    assert stuck_steps(s) == [
        ComponentStuck("Program", "Fit", "model", slow, ended.frame, 10 * SECOND, stuck=True)
    ]
    assert s.server.next_wakeup() is None

    s.wire.advance(5 * SECOND)
    s.wire.do()
    last = stuck_steps(s)[-1]
    assert (last.stuck, last.waited_ns) == (False, 15 * SECOND)
    assert len(stuck_steps(s)) == 2
    tell(s, "fit")
    s.wire.do()
    assert s.wire.outputs("loss") == [1.0]


def test_work_that_comes_back_in_time_is_not(stage):
    s = stage()
    give_up(s, "fit")
    s.wire.advance(9 * SECOND)
    s.wire.do()
    s.wire.advance(100 * SECOND)
    assert stuck_steps(s) == []
    assert s.server.next_wakeup() is None
    assert s.server._engine.works.quarantine.unwanted == {}


def test_ops_of_a_component_that_is_stuck_fail_at_once(stage):
    s = stage()
    give_up(s, "fit")
    s.wire.advance(10 * SECOND)
    now = s.server.now_ns
    tell(s, "fit", "look", "search")

    assert [(f.slot, f.op) for f in s.wire.failures()] == [
        ("model", "Fit"), ("model", "Params"), ("index", "Search"),
    ]  # fmt: skip
    for failure in s.wire.failures():
        assert isinstance(failure.error, Quarantined)
        assert failure.source is not None
        assert "the component of slot 'model' is stuck: Fit, which frame" in str(failure.error)
    assert s.server.now_ns == now
    assert s.server.live_frames == 0
    tell(s, "other")
    assert len(s.wire.outputs("other")) == 1, "others are not concerned"

    s.wire.do()
    tell(s, "look", "search")
    assert len(s.wire.outputs("seen")) == len(s.wire.outputs("found")) == 1


def test_whoever_stands_in_line_fails_too(stage):
    s = stage()
    give_up(s, "fit")
    tell(s, "fit", "look", "other")
    assert len(s.wire.ended()) == 2, "they wait for the component"
    s.wire.advance(10 * SECOND)
    assert [f.op for f in s.wire.failures()] == ["Fit", "Params"]
    assert len(stuck_steps(s)) == 1
    assert s.server.live_frames == 0
    s.wire.do()
    assert s.server._engine.slots.idle


def test_reads_that_overlap_go_on_and_no_other_begins(stage):
    s = stage(Sharing)
    give_up(s, "measure")
    tell(s, "measure")
    s.wire.advance(10 * SECOND)
    tell(s, "measure")
    assert [f.op for f in s.wire.failures()] == ["Evaluate"]
    s.wire.do(1)
    assert s.wire.outputs("measured") == [2.0], "it was under way before"
    s.wire.do()
    tell(s, "measure")
    s.wire.run()
    assert s.wire.outputs("measured") == [2.0, 2.0]


def test_a_component_is_told_of_once_however_much_work_is_stuck(stage):
    s = stage(Sharing)
    give_up(s, "measure", "measure", "measure")
    s.wire.advance(10 * SECOND)
    assert [step.stuck for step in stuck_steps(s)] == [True]
    s.wire.do()
    s.wire.do()
    assert [step.stuck for step in stuck_steps(s)] == [True], "some has not come back"
    s.wire.do()
    assert [step.stuck for step in stuck_steps(s)] == [True, False]


def test_work_that_the_host_lost_is_not_stuck(stage):
    s = stage()
    give_up(s, "fit")
    s.wire.works.clear()
    s.wire.poll()
    s.wire.advance(60 * SECOND)
    assert stuck_steps(s) == []
    assert s.server._engine.slots.idle


def test_at_once_is_possible(stage):
    s = stage(options=Options(stuck_after_ns=0))
    give_up(s, "fit")
    assert [step.stuck for step in stuck_steps(s)] == [True]


# Written down


def test_a_node_with_a_component_that_is_stuck_is_busy(stage):
    s = stage()
    give_up(s, "fit")
    s.server.snapshot()
    s.wire.advance(10 * SECOND)
    with pytest.raises(NodeBusy, match="components are stuck: Fit of slot 'model'") as caught:
        s.server.snapshot()
    assert len(caught.value.where) == 1
    s.wire.do()
    s.server.snapshot()


def node_with(stage: Any, log: list[bytes]) -> Node:
    s = stage()
    return install(
        s.server.peer, [], s.server._engine.artifact, [s.main], {"data": {"value": 1.0}},
        options=SOON, journal=log.append,
    )  # fmt: skip


def test_a_journal_says_the_same(stage):
    log: list[bytes] = []
    node = node_with(stage, log)
    node.invoke("Program")
    node.poll()
    node.publish("fit", 1)
    [work] = [step for step in node.poll() if isinstance(step, Deferred)]
    node.advance(4000 * SECOND)
    node.poll()
    node.publish("look", 1)
    node.poll()
    work.run()
    steps = node.poll()
    assert [step.stuck for step in steps if isinstance(step, ComponentStuck)] == [False]
    node.publish("look", 1)
    node.poll()
    told = []
    replay(log, on_step=lambda _, step: told.append(type(step).__name__))
    assert told.count("ComponentStuck") == 2
    assert told.count("OpFailed") == 1
