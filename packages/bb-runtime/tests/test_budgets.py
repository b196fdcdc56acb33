"""One poll is bounded, whatever a program does; and a loop without end is told of."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bb_dsl as bb
from bb_ir.types import tensor
from bb_runtime import Emitted, FrameEnded, LocalBus, Node, Options, Ship, install
from bb_runtime.errors import EndlessLoop, InvalidInput, NodeBroken
from bb_runtime.replay import replay
from bb_testing.programs import CountingModel, Stage

SECOND = 10**9
SMALL = Options(max_ops_per_poll=50)


class Slow(CountingModel):
    """Defers its work."""

    defers = ("fit",)

    def fit(self, ctx, batches):
        return ctx.defer(lambda: {"examples": 1, "loss": 1.0})


class Program(bb.Module):
    """Whatever a test records."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    backend = bb.slots.Backend()

    def __init__(self, record: Callable[[Any, bb.Graph], None]) -> None:
        super().__init__()
        self.record = record

    def body(self, g: bb.Graph) -> None:
        self.record(self, g)


@pytest.fixture
def stage(compiled):
    def make(record, *, parts=None, options: Options = SMALL, **more) -> Stage:
        more.setdefault("clients", 0)
        return Stage(compiled(Program(record), **(parts or {})), options=options, **more)

    return make


def forever(m: Any, g: bb.Graph) -> None:
    with g.loop() as turn:
        turn.until(turn < 0)


def events_without_end(m: Any, g: bb.Graph) -> None:
    with g.on("again") as event:
        g.publish("again", event)


def start(s: Stage) -> Node:
    s.server.invoke(s.main)
    return s.server


# A poll


@pytest.mark.parametrize("record", [forever, events_without_end])
def test_a_poll_returns_with_work_left(stage, record):
    s = stage(record)
    node = start(s)
    node.poll()
    if record is events_without_end:
        s.server.publish("again", 1)
    before = node._engine.ops_run
    for _ in range(20):
        node.poll()
        assert node.busy
        assert node.next_wakeup() == node.now_ns, "it is to be polled again at once"
    assert 20 * 50 <= node._engine.ops_run - before < 20 * 60


def test_a_poll_without_a_budget_of_its_own_has_that_of_the_options(stage):
    def record(m, g):
        with g.loop(40) as turn:
            g.output("turn", turn)

    whole, cut = (stage(record, options=Options(max_ops_per_poll=n)) for n in (10_000, 7))
    steps, polls = start(whole).poll(), []
    node = start(cut)
    while node.busy:
        polls.append(node.poll())

    assert len(polls) > 4
    assert [step for steps in polls for step in steps] == steps, "what is cut is the same in all"
    assert not whole.server.busy


def test_a_call_that_stands_for_several_ops_counts_as_all_of_them(compiled):
    class Sums(bb.Module):
        backend = bb.slots.Backend()

        def body(self, g: bb.Graph) -> None:
            x = g.input("x", tensor("float64", (3,)))
            for _ in range(9):
                x = self.backend.add(g, x, x)
            g.output("sum", x)

    s = Stage(compiled(Sums()), clients=0)
    s.run(x=np.ones(3))

    [bound] = s.server._engine.mains.values()
    assert any(op.inner for op in bound.program.stretches[0].ops), "this test is about a fused call"
    assert s.server._engine.ops_run == 10


@pytest.mark.parametrize("what", ["output", "envelope"])
def test_a_poll_stops_after_so_many_bytes(stage, what):
    def record(m, g):
        with g.loop(8):
            if what == "output":
                g.output("params", m.model.params(g))
            else:
                m.model.load_params(g, g.net_out("push", m.peers.sample(g, 2), m.model.params(g)))

    s = stage(
        record,
        options=Options(max_bytes_per_poll=30_000),
        clients=2,
        config={"model": {"size": 1000}},
    )
    node, seen = start(s), []
    while node.busy:
        found = [step for step in node.poll() if isinstance(step, (Emitted, Ship))]
        assert len(found) <= 4
        seen += found
    assert len(seen) == (8 if what == "output" else 16)


def test_a_paused_node_is_not_busy(stage):
    s = stage(forever)
    s.server.pause()
    node = start(s)
    assert node.poll() == []
    assert not node.busy
    node.resume()
    assert node.busy


@pytest.mark.parametrize("wrong", [{"max_ops_per_poll": 0}, {"max_bytes_per_poll": -1},
                                   {"max_ops_per_poll": 1.5}, {"stuck_after_ns": -1},
                                   {"max_ops_per_poll": None}])  # fmt: skip
def test_a_budget_with_which_nothing_would_run_is_refused(wrong):
    [name] = wrong
    with pytest.raises(InvalidInput, match=f"Options.{name} is {next(iter(wrong.values()))}"):
        Options(**wrong)


# Time


def test_a_loop_without_end_is_ended_by_its_deadline(stage):
    s = stage(forever)
    node = start(s)
    node.poll()
    [frame] = [one for one in node._engine.frames.values() if one.parent is None]
    node.advance(frame.deadline_ns - 1)
    assert "main" not in [step.region for step in node.poll() if isinstance(step, FrameEnded)]
    node.advance(frame.deadline_ns)

    ends = [step for step in node.poll() if isinstance(step, FrameEnded)]
    assert [end.how for end in ends if end.region == "main"] == ["expired"]
    assert not node.busy
    assert node.live_frames == 0


def test_what_is_ready_before_a_jump_runs_before_deadlines_pass(stage):
    def record(m, g):
        with g.loop(10) as turn:
            g.output("turn", turn)

    s = stage(record)
    start(s)
    s.wire.advance(3600 * SECOND)
    assert [end.how for end in s.wire.ended() if end.region == "main"] == ["done"]


def test_others_go_on_beside_a_loop_without_end(stage):
    def record(m, g):
        with g.on("spin", overlap="parallel"):
            forever(m, g)
        with g.on("count", overlap="parallel"):
            with g.loop(30) as turn:
                pass_on = turn + 1
            g.output("last", g.last(pass_on))

    s = stage(record)
    start(s).poll()
    s.server.publish("spin")
    s.server.publish("count")
    steps = [step for _ in range(20) for step in s.server.poll()]
    assert [step.value for step in steps if isinstance(step, Emitted)] == [31]
    assert s.server.busy


# Hosts


def test_polling_until_quiet_gives_what_each_poll_reports(stage):
    def record(m, g):
        with g.loop(100) as turn:
            g.output("turn", turn)

    s = stage(record)
    polls = list(start(s).poll_until_quiet())
    assert len(polls) > 2
    values = [step.value for steps in polls for step in steps if isinstance(step, Emitted)]
    assert values == list(range(1, 101))
    assert list(s.server.poll_until_quiet()) == [[]]


def line_of(text: str) -> int:
    with open(__file__) as file:  # noqa: PTH123
        return next(n for n, line in enumerate(file, 1) if line.strip() == text)


def test_a_bus_tells_of_a_loop_without_end_instead_of_hanging(stage):
    s = stage(forever)
    bus = LocalBus(s.server, max_ops=1000)
    frame = s.server.invoke(s.main)
    with pytest.raises(EndlessLoop, match=r"ran 1,0\d\d ops, .*, in turn \d+ of loop") as caught:
        bus.run()
    assert f"of {s.main}" in caught.value.found
    assert [place.line for place in caught.value.where] == [line_of("with g.loop() as turn:")]
    assert s.server.live_frames == 2, "it is as it was, and may go on"
    bus.max_ops = 100_000
    with pytest.raises(EndlessLoop, match=r"ran 100,0\d\d ops"):
        bus.run()
    assert frame.number == 2


def test_a_bus_tells_of_events_that_start_each_other(stage):
    s = stage(events_without_end)
    bus = LocalBus(s.server, max_ops=1000)
    start(s)
    bus.run()
    s.server.publish("again", 1)
    with pytest.raises(EndlessLoop, match=r"next is op Publish .*of on") as caught:
        bus.run()
    assert [place.line for place in caught.value.where] == [line_of('with g.on("again") as event:')]


def test_a_bus_tells_of_work_that_is_deferred_without_end(stage):
    def record(m, g):
        with g.loop() as turn:
            m.model.fit(g, m.data.batches(g))
            turn.until(turn < 0)

    s = stage(record, parts={"model": Slow})
    bus = LocalBus(s.server, max_ops=500)
    start(s)
    with pytest.raises(EndlessLoop, match="of loop"):
        bus.run()


def test_a_bus_carries_on_with_what_one_poll_does_not_do(stage):
    def record(m, g):
        with g.loop(500) as turn:
            g.output("turn", turn)
        g.output("count", g.gather(turn).count)

    s = stage(record)
    bus = LocalBus(s.server)
    start(s)
    values = [e.step.value for e in bus.run() if isinstance(e.step, Emitted)]
    assert values == [*range(1, 501), 500]


def test_an_interrupted_node_says_so(stage):
    s = stage(forever)
    node = start(s)
    polls = node.poll_until_quiet()
    next(polls)
    node._engine.broken = True
    with pytest.raises(NodeBroken):
        next(polls)


# Nothing without end outside of a budget


def test_rounds_in_which_nothing_is_done_count(compiled):
    """The compiler writes no such block; an artifact of a stranger may hold one."""

    def record(m, g):
        with g.rounds() as number:
            g.output("number", number)

    artifact = compiled(Program(record))
    [target] = artifact.targets.values()
    empty = tuple(op for op in target.ops if op.name != "Output")
    object.__setattr__(target, "ops", empty)
    s = Stage(artifact, clients=0, options=SMALL)
    node = start(s)
    for _ in range(5):
        assert len(node.poll()) <= 51
        assert node.busy
    with pytest.raises(EndlessLoop, match=r"next is op of no name .* of rounds"):
        list(node.poll_until_quiet(1000))
    node.close()
    assert node.live_frames == 0


# Written down


def test_a_node_that_is_cut_goes_on_elsewhere(stage):
    def record(m, g):
        with g.loop(100) as turn:
            g.output("turn", turn)

    one, other = stage(record), stage(record)
    start(one)
    first = one.server.poll()
    other.server.restore(one.server.snapshot())
    rest = [list(s.server.poll_until_quiet()) for s in (one, other)]
    assert rest[0] == rest[1]
    assert len(first) < 101


def test_a_journal_of_bounded_polls_is_replayed(compiled):
    def record(m, g):
        with g.loop(100) as turn:
            g.output("turn", turn)

    log: list[bytes] = []
    s = Stage(compiled(Program(record)), clients=0)
    node = install(
        s.server.peer, [], s.server._engine.artifact, [s.main], options=SMALL, journal=log.append
    )
    node.invoke(s.main)
    told = list(node.poll_until_quiet())
    node.invoke(s.main)
    node.advance(10**9)
    told += node.poll_until_quiet()
    done = replay(log)
    assert done.steps == sum(map(len, told))
    assert len(told) > 4
