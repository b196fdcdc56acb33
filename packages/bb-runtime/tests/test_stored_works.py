"""Nodes that are stopped while work is under way: it is begun again, and nothing else differs."""

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bb_dsl as bb
from bb_ir.dump import dump
from bb_ir.dump import load as load_dump
from bb_runtime import Deferred, LocalBus, Options
from bb_runtime._portable import KINDS
from bb_runtime.errors import NodeBusy, SnapshotDamaged, SnapshotError
from bb_runtime.journal import Kind, records_of
from bb_runtime.replay import replay
from bb_testing.programs import CountingModel, ListSource, Stage, SumAggregator

SECOND = 10**9
ONES = {"data": {"value": 1.0, "size": 1}}
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]


def load(name: str) -> Any:
    """Import a module of tests that stands beside this one."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


blocks = load("test_block_schedules")
anywhere = load("test_snapshot_anywhere")


class Slow(CountingModel):
    """Defers what takes long; draws before it does."""

    defers = ("fit", "evaluate")

    def fit(self, ctx, batches) -> Any:
        self._called("fit", ctx)
        drawn = [int(ctx.rng().integers(1000)) for _ in range(2)]
        total = sum(float(np.sum(x)) for x, _ in batches)

        def commit(value: float) -> Mapping[str, Any]:
            self.w = self.w + value
            return {"examples": batches.examples, "loss": total}

        return ctx.defer(lambda: total + sum(drawn), commit=commit)

    def evaluate(self, ctx, batches) -> Any:
        found = super().evaluate(ctx, batches)
        return ctx.defer(lambda: found) if self.w[0] % 2 else found


class SlowSum(SumAggregator):
    """Folds elsewhere."""

    defers = ("contribute",)

    def contribute(self, ctx, params, metrics) -> Any:
        self._called("contribute", ctx)
        held = ctx.round
        return ctx.defer(
            lambda: params, commit=lambda one: self.rounds.setdefault(held, []).append(one)
        )


class Program(bb.Module):
    """Whatever a test records."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    aggregator = bb.slots.Aggregator()

    def __init__(self, record) -> None:
        super().__init__()
        self.record = record

    def body(self, g: bb.Graph) -> None:
        self.record(self, g)


@pytest.fixture
def stage(compiled):
    def make(record, *, parts=None, **options) -> Stage:
        return Stage(compiled(Program(record), **(parts or {"model": Slow})), **options)

    return make


def fit(m: Any, g: bb.Graph) -> Any:
    return m.model.fit(g, m.data.batches(g))


def average(m: Any, g: bb.Graph) -> None:
    got = g.net_out("weights", m.peers.current_view(g), m.model.params(g))
    m.model.load_params(g, got)
    metrics = fit(m, g)
    reply = g.net_out("update", g.sender(got), m.model.params(g), metrics)
    done = g.gather(m.aggregator.contribute(g, *reply), deadline="10s")
    averaged, _ = m.aggregator.aggregate(g, after=done)
    g.output("w", averaged)


# Work is begun again


def test_work_that_was_under_way_is_begun_again_with_the_same_draws(stage):
    def record(m, g):
        metrics = fit(m, g)
        g.output("loss", metrics["loss"])
        g.output("w", m.model.params(g))

    stopped, never = (stage(record, clients=0, config=ONES, seed=6) for _ in range(2))
    for s in (stopped, never):
        s.invoke()
    before = stopped.server.snapshot()
    old = stopped.wire.works[0]
    stopped.restart()
    assert stopped.server.snapshot() == before, "also before anybody has polled"
    assert stopped.server.deferring
    old.run()
    stopped.wire.poll()
    assert stopped.wire.outputs("loss") == [], "what the old process does is lost"
    (work,) = stopped.wire.works
    assert (work.op, work.slot, work.frame) == (old.op, old.slot, old.frame)
    assert stopped.server.component("model").methods == ["fit"]
    for s in (stopped, never):
        s.wire.run()
        assert s.end_of(old.frame).how == "done"
    assert stopped.wire.outputs("w") == never.wire.outputs("w")
    assert stopped.server.snapshot() == never.server.snapshot()


def test_work_that_has_come_back_and_was_not_taken_in_is_done_again(stage):
    def record(m, g):
        g.output("loss", fit(m, g)["loss"])

    s = stage(record, clients=0, config=ONES)
    s.invoke()
    s.wire.works[0].run()
    s.restart()
    s.wire.run()
    assert s.wire.outputs("loss") == [1.0]


def test_work_that_nobody_has_polled_is_told_once(stage):
    s = stage(lambda m, g: g.output("loss", fit(m, g)["loss"]), clients=0, config=ONES)
    s.server.invoke(s.main, {})
    s.server.advance(1)  # runs, and reports nothing
    s.restart()
    assert [type(step) for step in s.server.poll()] == [Deferred]


def test_whoever_stands_in_line_for_a_component_keeps_the_order(stage):
    def record(m, g):
        with g.on("go", "int64", overlap="parallel") as number:
            fit(m, g)
            g.output("done", number, after=m.model.params(g))

    s = stage(record, clients=0, config=ONES)
    s.invoke()
    for number in range(5):
        s.server.publish("go", number)
        s.wire.poll()
    for _ in range(5):
        assert len(s.wire.works) == 1, "nobody else is at work on the model"
        before = s.server.snapshot()
        s.restart()
        assert s.server.snapshot() == before
        s.wire.poll()
        s.wire.do()
    assert s.wire.outputs("done") == list(range(5))
    assert s.server._engine.slots.idle


def test_a_group_of_stretches_goes_on_holding_what_it_held(stage):
    def record(m, g):
        first = fit(m, g)
        second = m.model.fit(g, m.data.batches(g, after=first["loss"]))
        g.output("loss", second["loss"])

    s = stage(record, clients=0, config=ONES)
    for _ in range(2):
        s.invoke()
    uses = []
    for _ in range(4):
        s.restart()
        (frame,) = s.server._engine.frames.values()
        uses.append([dict(grant.left) for grant in frame.held.values()])
        s.wire.poll()
        s.wire.do()
    assert uses == [[{1: 3, 0: 1}], [{1: 1}]] * 2, "the source is free after its last use"
    assert s.wire.outputs("loss") == [1.0, 1.0]
    assert s.server._engine.slots.idle


def test_a_method_that_fails_when_it_is_called_again_fails_its_frame(stage, monkeypatch):
    def record(m, g):
        g.output("loss", fit(m, g)["loss"])

    s = stage(record, clients=0, config=ONES)
    frames = [s.invoke(), s.invoke()]
    monkeypatch.setattr(ListSource, "remake", lambda *_: 1 / 0)
    data = s.server.snapshot()
    node = s.makers[0]()
    before = node.snapshot()
    with pytest.raises(SnapshotError, match=r"slot 'data' does not make a value again.*ZeroDiv"):
        node.restore(data)
    assert node.snapshot() == before
    monkeypatch.undo()
    monkeypatch.setattr(Slow, "fit", lambda *_: 1 / 0)
    s.restart()
    s.wire.run()
    assert [s.end_of(frame).reason for frame in frames] == ["ZeroDivisionError"] * 2
    assert s.server._engine.slots.idle


def test_a_method_that_answers_at_once_when_it_is_called_again(stage, monkeypatch):
    s = stage(lambda m, g: g.output("loss", fit(m, g)["loss"]), clients=0, config=ONES)
    frame = s.invoke()
    monkeypatch.setattr(Slow, "fit", CountingModel.fit)
    s.restart()
    s.wire.run()
    assert s.wire.outputs("loss") == [1.0]
    assert s.end_of(frame).how == "done"


def test_after_a_crash_no_work_is_begun_again(stage):
    s = stage(lambda m, g: g.output("loss", fit(m, g)["loss"]), clients=0, config=ONES)
    s.invoke()
    s.invoke()
    node = s.makers[0](incarnation=2)
    node.restore(s.server.snapshot(), clean=False)
    steps = node.poll()
    assert [step.how for step in steps if hasattr(step, "how")] == ["interrupted"] * 2
    assert not any(isinstance(step, Deferred) for step in steps)
    assert node._engine.slots.idle
    assert node._engine.works.open == 0


def test_work_of_frames_that_have_ended_is_not_begun_again_and_frees_what_it_used(stage):
    s = stage(average, parts={"aggregator": SlowSum}, clients=2, config=ONES)
    s.invoke()
    while not s.wire.works:
        s.wire.deliver()
    s.server.advance(11 * SECOND)  # the round is over, and its work is not
    s.wire.poll()
    assert s.server.component("aggregator").methods == ["contribute"], "it is told when it is free"
    assert s.server._engine.works.open == 1
    before = s.server.snapshot()
    s.restart()
    assert s.server.component("aggregator").methods == ["abandon"]
    assert s.server.component("aggregator").calls[0].round.number == 2
    assert s.server.counters["late_completions"] == 1
    assert s.server._engine.slots.idle
    assert s.server._engine.works.open == 0
    assert load_dump(before, kinds=KINDS)["engine"]["abandoned"]
    assert not load_dump(s.server.snapshot(), kinds=KINDS)["engine"]["abandoned"]
    s.wire.flying.clear()
    s.wire.steps.clear()
    s.run()
    assert len(s.wire.outputs("w")) == 1


def test_a_round_that_is_over_is_told_after_a_crash_too(stage):
    s = stage(average, parts={"aggregator": SlowSum}, clients=2, config=ONES)
    s.invoke()
    while not s.wire.works:
        s.wire.deliver()
    s.server.advance(11 * SECOND)
    node = s.makers[0](incarnation=2)
    node.restore(s.server.snapshot(), clean=False)
    assert node.component("aggregator").methods == ["abandon"]


def test_a_bus_goes_on_with_work_that_was_under_way(stage):
    s = stage(average, clients=2, config=ONES)
    s.invoke()
    for _ in range(2):
        s.wire.deliver(0)
    assert len(s.wire.works) == 2
    s.restart()
    bus = LocalBus(s.server, *s.clients)
    bus.run()
    assert [node.component("model").methods for node in s.clients] == [["fit", "params"]] * 2


def test_a_node_may_have_fewer_places_for_work_than_it_had(stage):
    def record(m, g):
        fit(m, g)

    s = stage(record, clients=0, config=ONES)
    frame = s.invoke()
    data = s.server.snapshot()
    node = s.makers[0](options=Options(max_deferred=0))
    node.restore(data)
    ended = [step for step in node.poll() if hasattr(step, "how")]
    assert [(end.frame, end.how) for end in ended] == [(frame, "failed")]


# Devices


class Device(CountingModel):
    """Asks a device."""

    defers = ("fit",)
    handles: list[Any]

    def fit(self, ctx, batches) -> Any:
        self._called("fit", ctx)
        self.handle = ctx.external()
        return self.handle


class Patient(Device):
    """A device that may be asked twice."""

    restartable = True


def test_a_device_is_not_asked_twice_unless_its_component_says_so(stage):
    def record(m, g):
        g.output("found", fit(m, g))

    s = stage(record, parts={"model": Device}, clients=0)
    s.invoke()
    with pytest.raises(NodeBusy, match="may not be asked twice: Fit of slot 'model'") as caught:
        s.server.snapshot()
    assert "restartable" in caught.value.fix
    s.server.component("model").handle.complete({"examples": 1, "loss": 0.0})
    s.wire.poll()
    assert s.server.snapshot()

    s = stage(record, parts={"model": Patient}, clients=0)
    s.invoke()
    old = s.server.component("model").handle
    s.restart()
    old.complete({"examples": 1, "loss": 1.0})
    s.wire.poll()
    assert s.wire.outputs("found") == []
    s.server.component("model").handle.complete({"examples": 1, "loss": 2.0})
    s.wire.poll()
    assert s.wire.outputs("found") == [{"examples": 1, "loss": 2.0}]


# Journals


def test_a_node_that_begins_its_work_again_can_be_replayed(stage):
    s = stage(average, parts={"model": Slow, "aggregator": SlowSum}, clients=2, config=ONES)
    s.invoke()
    while len(s.wire.works) < 2:
        s.wire.deliver()
    saved = [node.snapshot() for node in s.wire.nodes.values()]
    logs: list[list[bytes]] = []
    for make, data in zip(s.makers, saved, strict=True):
        logs.append([])
        node = make(journal=logs[-1].append)
        node.restore(data)
        s.wire.nodes[node.peer] = node
    s.wire.works.clear()
    s.wire.run()
    assert len(s.wire.outputs("w")) == 1
    for node, log in zip(s.wire.nodes.values(), logs, strict=True):
        done = replay(log)
        assert done.steps > 0
        assert done.node.snapshot() == node.snapshot()


def test_a_journal_begins_anew_when_no_work_is_under_way(stage):
    s = stage(lambda m, g: g.output("loss", fit(m, g)["loss"]), clients=0, config=ONES)
    records: list[bytes] = []

    def sink(record: bytes) -> bool:
        records.append(record)
        return True

    s.server = s.makers[0](journal=sink)
    s.wire.nodes[s.server.peer] = s.server
    frame = s.server.invoke(s.main, {})
    s.wire.poll()
    while len(records) < 250:
        s.server.advance(s.server.now_ns + 1)
        if len(records) == 120:
            s.wire.do()
    assert s.end_of(frame).how == "done"
    kinds = [one.kind for one in records_of(records)]
    assert Kind.SNAPSHOT in kinds[120:]
    assert Kind.SNAPSHOT not in kinds[kinds.index(Kind.POLL) : 120]
    assert replay(records).node.snapshot() == s.server.snapshot()


# Nonsense


@settings(max_examples=200, deadline=None, suppress_health_check=QUIET)
@given(number=st.integers(0, 2**20), junk=load("test_snapshots").JUNK)
def test_nonsense_about_work_is_taken_or_refused_as_a_whole(stage, number, junk):
    def record(m, g):
        with g.on("go", overlap="parallel"):
            fit(m, g)
            g.output("loss", fit(m, g)["loss"])

    s = stage(record, clients=0, config=ONES)
    s.invoke()
    for _ in range(3):
        s.server.publish("go")
    s.wire.poll()
    table = load_dump(s.server.snapshot(), kinds=KINDS)
    kinds = load("test_snapshots")
    paths = [
        path
        for path in kinds.leaves(table["engine"])
        if path[:1] in (("works",), ("line",), ("ready",), ("abandoned",)) or "held" in path
    ]
    changed = {**table, "engine": kinds.changed(table["engine"], paths[number % len(paths)], junk)}
    node = s.makers[0]()
    fresh = node.snapshot()
    try:
        node.restore(dump(changed, kinds=KINDS))
    except SnapshotError:
        assert node.snapshot() == fresh


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("works", lambda rows: [*rows, *rows]),
        ("works", lambda rows: [(rows[0][0], rows[0][1], ())]),
        ("works", lambda rows: [(rows[0][0], rows[0][1] + 7, rows[0][2])]),
        ("line", lambda rows: [(rows[0][0], 99)]),
        ("abandoned", lambda _: [(0, 2, 0, 0, "peer")]),
    ],
)
def test_work_that_no_op_can_have_is_refused(stage, key, change):
    s = stage(lambda m, g: g.output("loss", fit(m, g)["loss"]), clients=0, config=ONES)
    s.invoke()
    table = load_dump(s.server.snapshot(), kinds=KINDS)
    rows = table["engine"][key] or [(2, 0)]
    bad = {**table, "engine": {**table["engine"], key: change(rows)}}
    node = s.makers[0]()
    fresh = node.snapshot()
    with pytest.raises(SnapshotDamaged):
        node.restore(dump(bad, kinds=KINDS))
    assert node.snapshot() == fresh


# Any program


class Rounds(bb.Module):
    """Rounds side by side, on components that are at work elsewhere."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    aggregator = bb.slots.Aggregator()

    def body(self, g: bb.Graph) -> None:
        with g.rounds(3, width=2, on_fail="continue"):
            got = g.net_out("weights", self.peers.sample(g, 2), self.model.params(g), retries=1)
            self.model.load_params(g, got)
            with g.loop(2):
                metrics = self.model.fit(g, self.data.batches(g))
            metrics = g.last(metrics)
            reply = g.net_out("update", g.sender(got), self.model.params(g), metrics)
            done = g.gather(self.aggregator.contribute(g, *reply), quorum=1, deadline="10s")
            averaged, _ = self.aggregator.aggregate(g, after=done)
            self.model.load_params(g, averaged)
            loss = self.model.evaluate(g, self.data.batches(g))
            g.output("loss", loss["loss"])
        with g.every("4s", overlap="skip"):
            self.model.fit(g, self.data.batches(g))


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["deliver", "deliver", "do", "do", "advance", "invoke", "jump", "budget"]),
        st.integers(0, 30),
    ),
    max_size=25,
)


def live(stage: Stage, events: Any, stops: set[int]) -> Stage:
    """Run a program, and stop and go on before the events that have these numbers."""
    stage.invoke()
    for number, event in enumerate(events):
        flush(stage)
        if number in stops:
            stage.restart()
            stage.wire.poll()
        if event[0] == "do":
            do(stage, event[1])
        elif event[0] == "budget":
            stage.server.invoke(stage.main, {})
            stage.wire.take(stage.server, stage.server.poll(max_ops=event[1]))
            if number in stops:
                flush(stage, polls=False)
                stage.restart()
            stage.wire.poll()
        else:
            blocks.act(stage, [event])
    for _ in range(3):
        while stage.wire.works or stage.wire.flying:
            flush(stage)
            do(stage, 0)
            if stage.wire.flying:
                stage.wire.deliver()
        stage.wire.advance(30 * SECOND)
    return stage


def do(stage: Stage, number: int) -> None:
    """Do a piece of work: of all Nodes in their order, the one with a number."""
    inboxes = [node.inbox for node in stage.wire.nodes.values()]

    def place(work: Any) -> tuple[int, int]:
        task = work.run.__self__
        return next(at for at, one in enumerate(inboxes) if one is task._inbox), task.number

    works = sorted(stage.wire.works, key=place)
    if works:
        stage.wire.do(stage.wire.works.index(works[number % len(works)]))


def flush(stage: Stage, *, polls: bool = True) -> None:
    """Do what nobody waits for any more: a Node that is stopped forgets it, another does not."""
    over = [work for work in stage.wire.works if work.run.__self__.done]
    stage.wire.works = [work for work in stage.wire.works if work not in over]
    for work in over:
        work.run()
    if over and polls:
        stage.wire.poll()


@pytest.fixture(scope="session")
def rounds(compiled) -> Any:
    made = compiled(Rounds(), model=Slow, peers=anywhere.Picking, aggregator=SlowSum)
    return lambda: made


@settings(max_examples=60, deadline=None, suppress_health_check=QUIET)
@given(events=EVENTS, stops=st.sets(st.integers(0, 24), min_size=1))
def test_rounds_go_on_as_if_they_had_never_stopped(rounds, events, stops):
    each = {n: {"data": {"value": float(2**n), "size": 1}} for n in range(3)}
    stopped, never = (
        live(Stage(rounds(), clients=3, each=each, seed=5), events, at)
        for at in (stops, set[int]())
    )
    anywhere.assert_same(stopped, never)


@settings(max_examples=40, deadline=None, suppress_health_check=QUIET)
@given(
    statements=blocks.PROGRAMS,
    events=EVENTS,
    stops=st.sets(st.integers(0, 24), min_size=1),
    fails=st.sampled_from(["", "", "fit"]),
)
def test_any_program_goes_on_as_if_it_had_never_stopped(compiled, statements, events, stops, fails):
    artifact = compiled(blocks.Program(statements), model=Slow, peers=anywhere.Picking)
    stopped, never = (
        live(Stage(artifact, clients=2, config={"model": {"fail_in": fails}}, seed=3), events, at)
        for at in (stops, set[int]())
    )
    anywhere.assert_same(stopped, never)
