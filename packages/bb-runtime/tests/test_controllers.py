"""Blocks whose frames are their own: `rounds`, `every` and `on`."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bb_dsl as bb
from bb_ir.ids import PeerId
from bb_ir.types import ANY
from bb_runtime import BlockEnded, Dropped, Emitted, FrameEnded, LocalBus, Options, install
from bb_runtime.errors import InvalidInput, NodeBroken, OpError
from bb_testing.programs import CountingModel, Stage

SECOND = 10**9


class Program(bb.Module):
    """Whatever a test records."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    aggregator = bb.slots.Aggregator()

    def __init__(self, record: Callable[[Any, bb.Graph], None]) -> None:
        super().__init__()
        self.record = record

    def body(self, g: bb.Graph) -> None:
        self.record(self, g)


class Booted(Program):
    """A program with a bootstrap, and a body that tells the clients something."""

    def bootstrap(self, g: bb.Graph) -> None:
        self.record(self, g)

    def body(self, g: bb.Graph) -> None:
        g.output("params", self.model.params(g))
        g.output("hello", g.net_out("hello", self.peers.current_view(g), self.model.params(g)))


class Waiting(Program):
    """A program with a bootstrap, and a body that waits for an answer."""

    def bootstrap(self, g: bb.Graph) -> None:
        self.record(self, g)

    def body(self, g: bb.Graph) -> None:
        got = g.net_out("hello", self.peers.current_view(g), self.model.params(g))
        g.output("hello", g.gather(g.net_out("bye", g.sender(got), got)).count)


@pytest.fixture
def stage(compiled):
    def make(record, *, module=Program, parts=None, **options) -> Stage:
        return Stage(compiled(module(record), **(parts or {})), **options)

    return make


def ended_blocks(stage: Stage) -> list[tuple[str, int, int, str]]:
    steps = (step for _, step in stage.wire.steps if isinstance(step, BlockEnded))
    return [(step.region, step.turns, step.failed, step.how) for step in steps]


def ends(stage: Stage, region: str) -> list[str]:
    return [end.how for end in stage.wire.ended() if end.region == region]


def drops(stage: Stage) -> list[tuple[str, str]]:
    return [(s.reason, s.edge) for _, s in stage.wire.steps if isinstance(s, Dropped)]


def assert_quiet(stage: Stage) -> None:
    for node in stage.wire.nodes.values():
        assert node.live_frames == 0
        assert node._engine.payload_held == 0
        assert not node._engine.post.outgoing
        assert not node.waiting
    told = Counter((peer, s.frame) for peer, s in stage.wire.steps if isinstance(s, FrameEnded))
    assert not told or set(told.values()) == {1}


def asks(m: Any, g: bb.Graph, tag: Any) -> Any:
    """One exchange with all clients; returns the tag once they have answered."""
    got = g.net_out("weights", m.peers.current_view(g), tag)
    done = g.gather(g.net_out("update", g.sender(got), got), deadline="10s")
    return tag + done.count * 0


# rounds


@pytest.mark.parametrize(("times", "rounds"), [(3, 3), (1, 1), (0, 0), (-1, 0), (np.array(2), 2)])
def test_rounds_follow_each_other_and_tell_their_end_once(stage, times, rounds):
    def record(m, g):
        with g.rounds(g.input("n", ANY)) as r:
            g.output("round", r)

    s = stage(record, clients=0)
    s.run(n=times)
    assert s.wire.outputs("round") == list(range(1, rounds + 1))
    assert ended_blocks(s) == [("@rounds", rounds, 0, "done")]
    assert_quiet(s)


@pytest.mark.parametrize("times", [True, "3", 1.5, None])
def test_what_is_no_number_of_rounds_fails_the_frame_that_starts_them(stage, times):
    def record(m, g):
        with g.rounds(g.input("n", ANY)) as r:
            g.output("round", r)

    s = stage(record, clients=0)
    s.run(n=times)
    (failure,) = s.wire.failures()
    assert isinstance(failure.error, OpError)
    assert failure.op == "Rounds"
    assert ended_blocks(s) == []


def test_until_ends_rounds_that_have_no_number(stage):
    def record(m, g):
        with g.rounds() as r:
            g.output("round", r)
            r.until(r >= 4)

    s = stage(record, clients=0)
    s.run()
    assert s.wire.outputs("round") == [1, 2, 3, 4]
    assert ended_blocks(s) == [("@rounds", 4, 0, "stopped")]
    assert_quiet(s)


def test_thousands_of_local_rounds_do_not_recurse(stage):
    def record(m, g):
        with g.rounds(5000) as r:
            g.output("round", r)

    s = stage(record, clients=0)
    s.run()
    assert s.wire.outputs("round")[-1] == 5000
    assert ended_blocks(s) == [("@rounds", 5000, 0, "done")]


def test_values_from_around_are_handed_over_when_the_block_starts(stage):
    def record(m, g):
        tag = g.input("tag", "int64")
        weights = m.model.params(g)
        with g.rounds(2) as r:
            back = asks(m, g, tag)
            m.model.load_params(g, weights)
            g.output("round", back * 100 + r)

    s = stage(record, clients=2)
    frame = s.invoke(tag=7)
    assert s.end_of(frame).how == "done"  # long gone when the rounds go on
    assert s.wire.outputs("round") == []
    s.wire.run()
    assert s.wire.outputs("round") == [701, 702]
    assert s.server.component("model").methods == ["params", "load_params", "load_params"]
    assert_quiet(s)


def test_as_many_rounds_as_the_width_are_in_flight_whoever_answers_first(stage):
    def record(m, g):
        with g.rounds(5, width=2) as r:
            g.output("ask", r)
            g.output("done", asks(m, g, r))

    s = stage(record, clients=1)
    s.invoke()
    assert s.wire.outputs("ask") == [1, 2]
    s.wire.deliver(1)
    s.wire.deliver(1)  # the second is answered first
    assert s.wire.outputs("done") == [2]
    assert s.wire.outputs("ask") == [1, 2, 3]
    assert s.server.live_frames == 2
    s.wire.run()
    assert sorted(s.wire.outputs("done")) == [1, 2, 3, 4, 5]
    assert ended_blocks(s) == [("@rounds", 5, 0, "done")]
    assert_quiet(s)


def fails_in_round_two(on_fail: str, width: int = 1):
    def record(m, g):
        with g.rounds(4, on_fail=on_fail, width=width) as r:
            g.output("round", r)
            with g.when(r.equals(2)):
                m.model.fit(g, m.data.batches(g))

    return record


@pytest.mark.parametrize(
    ("on_fail", "rounds", "end"),
    [
        ("stop", [1, 2], ("@rounds", 2, 1, "failed")),
        ("continue", [1, 2, 3, 4], ("@rounds", 4, 1, "done")),
    ],
)
def test_a_round_that_fails_ends_the_block_or_not(stage, on_fail, rounds, end):
    s = stage(fails_in_round_two(on_fail), clients=0, config={"model": {"fail_in": "fit"}})
    s.run()
    assert s.wire.outputs("round") == rounds
    assert len(s.wire.failures()) == 1
    assert ended_blocks(s) == [end]
    assert_quiet(s)


def test_rounds_beside_one_that_failed_go_on_to_their_end(stage):
    def record(m, g):
        with g.rounds(9, width=3) as r:
            back = asks(m, g, r)
            with g.when(back.equals(2)):
                m.model.fit(g, m.data.batches(g))
            g.output("round", back)

    s = stage(record, clients=1, config={"model": {"fail_in": "fit"}})
    s.invoke()
    s.wire.deliver(1)
    s.wire.deliver(2)  # round 2 fails
    assert len(s.wire.failures()) == 1
    assert ended_blocks(s) == []
    s.wire.run()
    assert s.wire.outputs("round") == [2, 1, 3]
    assert ended_blocks(s) == [("@rounds", 3, 1, "failed")]
    assert_quiet(s)


def test_a_round_whose_peers_are_lost_fails_and_the_next_begins(stage):
    def record(m, g):
        with g.rounds(3, on_fail="continue") as r:
            g.output("answered", asks(m, g, r))

    s = stage(record, clients=1)
    s.invoke()
    s.wire.lose()
    s.wire.advance(10 * SECOND)
    assert ends(s, "@rounds") == ["failed"]
    s.wire.run()
    assert s.wire.outputs("answered") == [2, 3]
    assert ended_blocks(s) == [("@rounds", 3, 1, "done")]
    assert_quiet(s)


def test_rounds_that_are_started_twice_take_turns(stage):
    def record(m, g):
        tag = g.input("tag", "int64")
        with g.rounds(3) as r:
            g.output("round", tag * 10 + asks(m, g, r))

    s = stage(record, clients=1)
    s.invoke(tag=1)
    s.invoke(tag=2)
    assert s.server.live_frames == 1  # one at a time, in the order of arrival
    s.wire.run()
    assert s.wire.outputs("round") == [11, 21, 12, 22, 13, 23]
    assert ended_blocks(s) == [("@rounds", 3, 0, "done")] * 2
    assert_quiet(s)


def test_until_ends_its_own_start_of_the_block_only(stage):
    def record(m, g):
        tag = g.input("tag", "int64")
        with g.rounds() as r:
            back = asks(m, g, r)
            r.until(back >= tag)
            g.output("round", tag * 10 + back)

    s = stage(record, clients=1)
    s.invoke(tag=1)
    s.invoke(tag=3)
    s.wire.run()
    assert s.wire.outputs("round") == [11, 31, 32, 33]
    assert ended_blocks(s) == [("@rounds", 1, 0, "stopped"), ("@rounds", 3, 0, "stopped")]


def test_no_round_in_line_starts_after_until(stage):
    def record(m, g):
        tag = g.input("tag", "int64")
        with g.rounds(width=2) as r:
            back = asks(m, g, r)
            r.until(back > 0)
            g.output("round", tag * 10 + back)

    s = stage(record, clients=1)
    s.invoke(tag=1)
    s.invoke(tag=2)  # both its rounds stand in line
    s.wire.deliver()
    s.wire.deliver(1)  # round 1 of the first ends: one of the line may start
    assert s.wire.outputs("round") == [11]
    s.wire.run()
    assert sorted(s.wire.outputs("round")) in ([11, 12, 21], [11, 12, 21, 22])
    assert {how for *_, how in ended_blocks(s)} == {"stopped"}
    assert len(ended_blocks(s)) == 2
    assert_quiet(s)


@pytest.mark.parametrize("on_fail", ["stop", "continue"])
@pytest.mark.parametrize("times", [3, None])
def test_rounds_that_find_no_place_in_line_end_their_block(stage, on_fail, times):
    def record(m, g):
        with g.rounds(times, on_fail=on_fail, width=2) as r:
            back = asks(m, g, r)
            r.until(back >= 3)
            g.output("round", back)

    s = stage(record, clients=1, options=Options(max_queued=0))
    s.invoke()
    s.invoke()
    assert drops(s) == [("queue_full", "@rounds")]
    assert ended_blocks(s) == [("@rounds", 1, 1, "failed")]
    s.wire.run()
    # Round 4 was in flight beside round 3.
    assert s.wire.outputs("round") == ([1, 2, 3] if times else [1, 2, 3, 4])
    assert len(ended_blocks(s)) == 2
    assert_quiet(s)


def test_a_round_that_waits_in_line_past_its_deadline_never_starts(stage):
    def record(m, g):
        with g.rounds(1) as r:
            got = g.net_out("weights", m.peers.current_view(g), r, deadline="5s")
            g.output("got", g.net_out("update", g.sender(got), got))

    s = stage(record, clients=1)
    s.invoke()
    s.invoke()
    s.wire.lose()
    s.wire.advance(10_000 * SECOND)
    assert sorted(ends(s, "@rounds")) == ["expired", "expired"]
    assert ended_blocks(s) == [("@rounds", 1, 1, "failed")] * 2
    assert_quiet(s)


def test_rounds_of_a_bootstrap_wait_until_it_has_ended_and_are_none_themselves(stage):
    def record(m, g):
        with g.rounds(2, width=2) as r:
            g.output("round", r)
        g.output("boot", asks(m, g, g.scalar(0)))

    s = stage(record, module=Booted, clients=1)
    s.server.run_bootstrap()
    s.server.invoke(s.main)
    s.wire.poll()
    assert s.wire.outputs("params") == s.wire.outputs("round") == []
    s.wire.run()
    names = [step.name for _, step in s.wire.steps if isinstance(step, Emitted)]
    assert names.index("boot") < names.index("params")
    assert names.index("boot") < names.index("round")
    assert ended_blocks(s) == [("@rounds", 2, 0, "done")]
    assert_quiet(s)


def test_frames_in_line_wait_for_a_bootstrap_that_began_after_them(stage):
    def record(m, g):
        g.output("boot", asks(m, g, g.scalar(0)))

    s = stage(record, module=Waiting, clients=1)
    for _ in range(2):
        s.invoke()
    s.server.run_bootstrap()
    s.wire.poll()
    for _ in range(2):
        s.wire.deliver()  # the first body's request, and that of the bootstrap
    s.wire.deliver()
    assert ends(s, "main") == ["done"]
    assert s.server.live_frames == 1  # the second body is not let in
    s.wire.run()
    assert s.wire.outputs("boot") == [0]
    assert ends(s, "main") == ["done"] * 3
    assert_quiet(s)


def test_main_goes_on_beside_rounds_that_wait(stage):
    def record(m, g):
        with g.rounds(2) as r:
            g.output("round", asks(m, g, r))
        g.output("main", m.model.params(g))

    s = stage(record, clients=1)
    s.invoke()
    s.invoke()
    assert len(s.wire.outputs("main")) == 2
    assert s.wire.outputs("round") == []
    s.wire.run()
    assert s.wire.outputs("round") == [1, 1, 2, 2]


def test_rounds_on_a_client_that_was_asked_to_start_them(stage):
    def record(m, g):
        n = g.net_out("begin", m.peers.current_view(g), g.input("n", "int64"))
        with g.rounds(n) as r:
            g.output("metrics", m.model.fit(g, m.data.batches(g)))
            g.output("round", r)

    s = stage(record, clients=2, config={"data": {"value": 1.0}})
    s.run(n=3)
    assert s.wire.outputs("round") == [1, 2, 3] * 2
    assert ended_blocks(s) == [("@rounds", 3, 0, "done")] * 2
    assert [n.component("model").w[0] for n in s.clients] == [9.0, 9.0]
    assert_quiet(s)


# every


def ticks(period="5s", jitter="", overlap="skip", exchange=False):
    def record(m, g):
        with g.every(period, jitter=jitter, overlap=overlap) as tick:
            g.output("tick", asks(m, g, tick) if exchange else tick)

    return record


def times_of(stage: Stage, until: int, step: int = SECOND // 10) -> list[float]:
    """Let time pass in small steps; returns when ticks came."""
    found: list[float] = []
    while stage.server.now_ns < until:
        before = len(stage.wire.outputs("tick"))
        stage.wire.advance(step)
        came = len(stage.wire.outputs("tick")) - before
        found += [stage.server.now_ns / SECOND] * came
    return found


def test_ticks_come_on_a_grid_that_begins_when_the_block_starts(stage):
    s = stage(ticks(), clients=0)
    s.wire.advance(SECOND)
    s.invoke()
    assert s.server.next_wakeup() == 6 * SECOND
    assert times_of(s, 21 * SECOND, step=SECOND) == [6, 11, 16, 21]
    assert s.wire.outputs("tick") == [1, 2, 3, 4]
    assert s.server.next_wakeup() == 26 * SECOND
    assert_quiet(s)


def test_the_grid_does_not_drift_when_the_host_comes_late(stage):
    s = stage(ticks(), clients=0)
    s.invoke()
    for late in (7, 5, 5):
        s.wire.advance(late * SECOND)  # at 7, 12 and 17
    assert s.wire.outputs("tick") == [1, 2, 3]
    assert s.server.next_wakeup() == 20 * SECOND
    assert s.server.counters == {}


def test_missed_ticks_become_the_last_of_them_and_are_counted(stage):
    s = stage(ticks(exchange=True), clients=1)
    s.invoke()
    s.wire.advance(1003 * SECOND)
    assert s.server.counters == {"ticks_missed": 199}
    assert s.server.live_frames == 1
    assert s.server.next_wakeup() == 1005 * SECOND
    s.wire.run()  # it still has its deadline before it
    assert s.wire.outputs("tick") == [1]
    assert_quiet(s)


@pytest.mark.parametrize("seed", range(4))
def test_jitter_is_within_its_bound_and_the_same_in_every_run(stage, seed):
    def run(seed):
        s = stage(ticks(jitter="3s"), clients=0, seed=seed)
        s.invoke()
        wakeups = []
        for _ in range(40):
            when = s.server.next_wakeup()
            wakeups.append(when)
            s.wire.advance(when - s.server.now_ns)
        assert s.wire.outputs("tick") == list(range(1, 41))
        assert s.server.counters == {}
        return wakeups

    found = run(seed)
    late = [when - 5 * SECOND * n for n, when in enumerate(found, 1)]
    assert all(0 <= one < 3 * SECOND for one in late)
    assert len(set(late)) == 40
    assert found == run(seed)
    assert found != run(seed + 1)


def test_a_jittered_tick_that_is_not_due_yet_is_not_missed(stage):
    def wakeups():
        s = stage(ticks(jitter="4s"), clients=0)
        s.invoke()
        found = []
        for _ in range(30):
            found.append(s.server.next_wakeup())
            s.wire.advance(found[-1] - s.server.now_ns)
        return found

    instants = wakeups()
    # A jump to just before a jittered instant, past the grid's.
    late = next(n for n in range(1, 30) if instants[n] - 5 * SECOND * (n + 1) > 2 * SECOND)
    s = stage(ticks(jitter="4s"), clients=0)
    s.invoke()
    s.wire.advance(instants[late] - 1)
    assert s.server.counters.get("ticks_missed", 0) == late - 1
    assert s.server.next_wakeup() == instants[late]
    s.wire.advance(1)
    assert s.wire.outputs("tick") == [1, 2]


def test_peers_tick_at_different_times(compiled):
    artifact = compiled(Program(ticks(jitter="3s")))
    found = []
    for n in range(4):
        node = install(PeerId.from_seed(b"tick", n), [], artifact, ["Program"])
        node.invoke("Program")
        node.poll()
        found.append(node.next_wakeup())
    assert len(set(found)) == 4


@pytest.mark.parametrize(
    ("overlap", "live", "skipped"), [("skip", 1, 2), ("queue", 1, 0), ("parallel", 3, 0)]
)
def test_a_tick_while_the_one_before_runs(stage, overlap, live, skipped):
    s = stage(ticks(period="2s", overlap=overlap, exchange=True), clients=1)
    s.invoke()
    for _ in range(3):
        s.wire.advance(2 * SECOND)
    assert s.server.live_frames == live
    assert drops(s) == [("tick_skipped", "@every")] * skipped
    assert not s.server.waiting  # for anything but ticks
    s.wire.run()
    assert s.wire.outputs("tick") == list(range(1, 4 - skipped))
    assert_quiet(s)


def test_ticks_that_are_skipped_are_skipped_during_a_bootstrap_too(stage):
    s = stage(ticks(period="1s"), clients=0)
    s.invoke()
    s.server._engine._bootstraps = 1  # as if one ran
    for _ in range(4):
        s.wire.advance(SECOND)
    assert s.server.counters == {"tick_skipped": 3}


def test_a_block_that_is_started_again_takes_its_own_place(stage):
    s = stage(ticks(), clients=0)
    s.invoke()
    s.wire.advance(3 * SECOND)
    s.invoke()
    assert ended_blocks(s) == [("@every", 0, 0, "stopped")]
    assert s.server.next_wakeup() == 8 * SECOND
    s.wire.advance(15 * SECOND)
    assert s.wire.outputs("tick") == [1]
    assert s.server.counters == {"ticks_missed": 2}


def test_a_block_that_is_started_again_while_a_tick_runs_tells_its_end_after_it(stage):
    s = stage(ticks(exchange=True), clients=1)
    s.invoke()
    s.wire.advance(5 * SECOND)
    s.invoke()
    assert ended_blocks(s) == []
    s.wire.run()
    assert ended_blocks(s) == [("@every", 1, 0, "stopped")]
    assert s.server.next_wakeup() == 10 * SECOND


@pytest.mark.parametrize("overlap", ["skip", "queue", "parallel"])
def test_until_stops_the_ticks_those_in_line_too(stage, overlap):
    def record(m, g):
        weights = m.model.params(g)
        with g.every("2s", overlap=overlap) as tick:
            back = asks(m, g, tick)
            tick.until(back >= 1)
            m.model.load_params(g, weights)
            g.output("tick", back)

    s = stage(record, clients=1)
    s.invoke()
    for _ in range(3):
        s.wire.advance(2 * SECOND)
    s.wire.run()
    wanted = {"skip": [1], "queue": [1], "parallel": [1, 2, 3]}[overlap]
    assert s.wire.outputs("tick") == wanted
    assert s.server.next_wakeup() is None
    (end,) = ended_blocks(s)
    assert end[3] == "stopped"
    assert all(not one.handed for one in s.server._engine.controllers._running.values())
    s.wire.advance(20 * SECOND)
    assert s.wire.outputs("tick") == wanted
    assert_quiet(s)


def test_a_tick_that_fails_does_not_stop_the_next(stage):
    def record(m, g):
        with g.every("5s") as tick:
            g.output("tick", tick)
            m.model.fit(g, m.data.batches(g))

    s = stage(record, clients=0, config={"model": {"fail_in": "fit"}})
    s.invoke()
    for _ in range(3):
        s.wire.advance(5 * SECOND)
    assert s.wire.outputs("tick") == [1, 2, 3]
    assert ends(s, "@every") == ["failed"] * 3
    assert ended_blocks(s) == []


def test_ticks_and_deadlines_come_in_the_order_of_their_instants(stage):
    def record(m, g):
        with g.every("4s", overlap="skip") as tick:
            g.output("tick", tick)
        got = g.net_out("weights", m.peers.current_view(g), g.scalar(1))
        done = g.gather(
            g.net_out("update", g.sender(got), got),
            quorum=1,
            wait="all",
            deadline="3s",
            on_short="continue",
        )
        g.output("count", done.count)

    s = stage(record, clients=1)
    s.invoke()
    s.wire.lose()
    s.wire.advance(5 * SECOND)
    names = [step.name for _, step in s.wire.steps if isinstance(step, Emitted)]
    assert names == ["count", "tick"]


def test_a_clock_that_goes_back_changes_nothing(stage):
    s = stage(ticks(), clients=0)
    s.invoke()
    s.wire.advance(5 * SECOND)
    s.server.advance(2 * SECOND)
    s.wire.poll()
    assert s.server.counters == {"clock_backwards": 1}
    assert s.server.next_wakeup() == 10 * SECOND
    assert s.wire.outputs("tick") == [1]


def test_an_interrupt_while_a_component_abandons_leaves_the_node_broken(stage):
    def record(m, g):
        with g.rounds(2):
            metrics = m.model.fit(g, m.data.batches(g))
            m.aggregator.contribute(g, m.model.params(g), metrics)
            m.aggregator.aggregate(g)

    s = stage(record, clients=0, config={"aggregator": {"interrupt_in": "abandon"}})
    with pytest.raises(KeyboardInterrupt):
        s.invoke()
    with pytest.raises(NodeBroken):
        s.server.poll()


def test_a_node_that_is_closed_ticks_no_more(stage):
    s = stage(ticks(), clients=0)
    s.invoke()
    s.server.close()
    assert s.server.next_wakeup() is None
    assert s.server._engine.controllers._running == {}


# The bus


def bus_of(compiled, record, clients=1) -> tuple[LocalBus, Stage]:
    s = Stage(compiled(Program(record)), clients=clients)
    return LocalBus(s.server, *s.clients), s


def test_the_bus_lets_no_time_pass_for_ticks_alone(compiled):
    bus, s = bus_of(compiled, ticks(exchange=True))
    s.server.invoke(s.main)
    bus.run()
    assert s.server.now_ns == 0
    found = [e.step.value for e in bus.advance("26s") if isinstance(e.step, Emitted)]
    assert found == [1, 2, 3, 4, 5]
    assert [node.now_ns for node in bus.nodes] == [26 * SECOND] * 2
    assert bus.run() == []
    assert len([e for e in bus.advance("4s") if isinstance(e.step, Emitted)]) == 1


def test_the_bus_comes_to_rest_although_every_tick_waits_for_an_answer_in_vain(compiled):
    bus, s = bus_of(compiled, ticks(period="1s", exchange=True))
    s.clients[0].block_peer(s.server.peer)  # what is refused is not answered
    s.server.invoke(s.main)
    bus.run()
    bus.advance("3s")
    assert s.server.live_frames == 1
    assert not s.server.waiting
    assert bus.run() == []
    assert s.server.now_ns == 3 * SECOND


def test_the_bus_lets_time_pass_for_other_frames_and_ticks_come_meanwhile(compiled):
    def record(m, g):
        with g.every("4s", overlap="queue") as tick:
            g.output("tick", tick)
        g.output("back", asks(m, g, g.scalar(1)))

    bus, s = bus_of(compiled, record)
    s.clients[0].block_peer(s.server.peer)
    s.server.invoke(s.main)
    found = [e.step for e in bus.run() if isinstance(e.step, (Emitted, FrameEnded))]
    assert [step.value for step in found if isinstance(step, Emitted)] == [1, 2]
    assert found[-1].how == "failed"
    assert s.server.now_ns == 10 * SECOND


# on and publish


def test_events_come_from_the_host_and_from_the_program(stage):
    def record(m, g):
        add = g.input("add", "int64")
        with g.on("go", "int64") as event:
            g.output("go", event + add)
            with g.when(event > 1):
                g.publish("more", event)
        with g.on("more", name="listener") as event:
            g.output("more", event)

    s = stage(record, clients=0)
    s.invoke(add=10)
    assert [s.server.publish("go", n) for n in (1, 2)] == [1, 1]
    assert s.server.publish("nobody", 1) == 0
    assert s.server.publish("more") == 1
    s.wire.poll()
    assert s.wire.outputs("go") == [11, 12]
    assert s.wire.outputs("more") == [None, 2]
    assert_quiet(s)


def test_an_event_before_anybody_listens_is_lost(stage):
    def record(m, g):
        with g.on("go") as event:
            g.output("go", event)

    s = stage(record, clients=0)
    assert s.server.publish("go", 1) == 0
    s.invoke()
    assert s.wire.outputs("go") == []


@pytest.mark.parametrize("event", ["3", 1.5, None, True, np.array([1])])
def test_an_event_of_the_wrong_type_is_refused_before_anything_runs(stage, event):
    def record(m, g):
        with g.on("go", "int64") as number:
            g.output("typed", number)
        with g.on("go", name="loose") as anything:
            g.output("loose", anything)

    s = stage(record, clients=0)
    s.invoke()
    with pytest.raises(InvalidInput) as caught:
        s.server.publish("go", event)
    assert "for topic 'go' is" in caught.value.found
    assert caught.value.expected == "int64"
    s.wire.poll()
    assert s.wire.outputs("typed") == s.wire.outputs("loose") == []
    assert s.server.publish("go", 4) == 2
    s.wire.poll()
    assert s.wire.outputs("typed") == s.wire.outputs("loose") == [4]


def test_an_event_of_the_wrong_type_fails_the_frame_that_publishes_it(stage):
    def record(m, g):
        with g.on("go", "int64") as event:
            g.output("go", event)
        g.publish("go", g.input("event", ANY))

    s = stage(record, clients=0)
    s.run(event=5)
    s.run(event="no")
    assert s.wire.outputs("go") == [5]
    (failure,) = s.wire.failures()
    assert failure.op == "Publish"
    assert isinstance(failure.error, InvalidInput)


def test_events_are_frozen(stage):
    def record(m, g):
        with g.on("go") as event:
            g.output("go", event)

    s = stage(record, clients=0)
    s.invoke()
    s.server.publish("go", np.ones(2))
    s.wire.poll()
    assert not s.wire.outputs("go")[0].flags.writeable


@pytest.mark.parametrize(
    ("overlap", "live", "skipped"), [("skip", 1, 2), ("queue", 1, 0), ("parallel", 3, 0)]
)
def test_an_event_while_the_one_before_is_worked_on(stage, overlap, live, skipped):
    def record(m, g):
        with g.on("go", "int64", overlap=overlap) as event:
            g.output("go", asks(m, g, event))

    s = stage(record, clients=1)
    s.invoke()
    assert [s.server.publish("go", n) for n in range(3)] == [1, 1, 1]
    s.wire.poll()
    assert s.server.live_frames == live
    assert drops(s) == [("event_skipped", "@on")] * skipped
    assert s.server.waiting
    s.wire.run()
    assert sorted(s.wire.outputs("go")) == list(range(3 - skipped))
    assert_quiet(s)


def test_events_beyond_the_line_are_dropped_and_counted(stage):
    def record(m, g):
        with g.on("go", "int64") as event:
            g.output("go", asks(m, g, event))

    s = stage(record, clients=1, options=Options(max_queued=2))
    s.invoke()
    for n in range(5):
        s.server.publish("go", n)
    s.wire.run()
    assert s.wire.outputs("go") == [0, 1, 2]
    assert s.server.counters == {"queue_full": 2}
    assert ends(s, "@on").count("cancelled") == 2
    assert_quiet(s)


def test_a_listener_that_is_started_again_listens_once_with_what_it_is_given_now(stage):
    def record(m, g):
        tag = g.input("tag", "int64")
        with g.on("go", "int64") as event:
            g.output("go", tag * 10 + event)

    s = stage(record, clients=0)
    s.invoke(tag=1)
    s.invoke(tag=2)
    assert ended_blocks(s) == [("@on", 0, 0, "stopped")]
    assert s.server.publish("go", 3) == 1
    s.wire.poll()
    assert s.wire.outputs("go") == [23]


def test_events_that_wait_in_line_are_worked_on_after_the_block_was_started_again(stage):
    def record(m, g):
        tag = g.input("tag", "int64")
        with g.on("go", "int64") as event:
            g.output("go", tag * 10 + asks(m, g, event))

    s = stage(record, clients=1)
    s.invoke(tag=1)
    for n in range(2):
        s.server.publish("go", n)
    s.invoke(tag=2)
    s.server.publish("go", 5)
    s.wire.run()
    assert s.wire.outputs("go") == [10, 11, 25]
    assert ended_blocks(s) == [("@on", 2, 0, "stopped")]


# Draws and sameness


class Dice(CountingModel):
    """Writes down what it draws."""

    def __init__(self, config, env):
        super().__init__(config, env)
        self.drawn: list[int] = []

    def fit(self, ctx, batches):
        self.drawn.append(int(ctx.rng().integers(1 << 60)))
        return super().fit(ctx, batches)


def test_rounds_draw_their_own_numbers_whatever_runs_beside_them(stage):
    def record(m, g):
        with g.rounds(3) as r:
            m.model.fit(g, m.data.batches(g))
            g.output("round", r)

    def beside(m, g):
        record(m, g)
        with g.every("1s", name="other"):
            m.data.reset(g)

    def drawn(record, seed):
        s = stage(record, clients=0, parts={"model": Dice}, seed=seed)
        s.invoke()
        s.wire.advance(3 * SECOND)
        s.run()
        return s.server.component("model").drawn

    first = drawn(record, 1)
    assert len(set(first)) == len(first) == 6
    assert first == drawn(record, 1) == drawn(beside, 1)
    assert not set(first) & set(drawn(record, 2))


def test_many_ticks_rounds_and_events_leave_nothing(stage):
    def record(m, g):
        with g.rounds(3, width=2, on_fail="continue") as r:
            asks(m, g, r)
        with g.every("2s", overlap="queue") as tick:
            asks2 = g.net_out("tick", m.peers.current_view(g), tick)
            g.output("seen", asks2)
            g.publish("seen", asks2)
        with g.on("seen") as event:
            g.output("event", event)

    s = stage(record, clients=2)
    for n in range(40):
        s.invoke()
        if n % 3 == 0 and s.wire.flying:
            s.wire.lose()
        s.wire.advance(SECOND)
        s.wire.run()
        s.wire.advance(12 * SECOND)
        s.wire.run()
    s.wire.advance(100 * SECOND)
    s.wire.run()
    assert s.server.live_frames == 0
    assert s.server._engine.payload_held == 0
    assert not s.server._engine.post.outgoing
    assert len(s.server._engine.timers) == 1
    assert len([b for b in ended_blocks(s) if b[0] == "@rounds"]) == 40
