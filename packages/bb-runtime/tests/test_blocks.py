"""Turns of `each`, `loop` and `when`: one after the other, parts of the frame around them."""

import gc
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bb_dsl as bb
from bb_ir.types import ANY
from bb_roles import Batches
from bb_runtime import FrameEnded, LocalBus
from bb_runtime.errors import DeadlineExceeded, NodeBroken, NoTurn, OpError
from bb_testing.programs import CountingModel, ListSource, Stage

SECOND = 10**9


class Program(bb.Module):
    """Whatever a test records."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    aggregator = bb.slots.Aggregator()
    backend = bb.slots.Backend()

    def __init__(self, record: Callable[[Any, bb.Graph], None]) -> None:
        super().__init__()
        self.record = record

    def body(self, g: bb.Graph) -> None:
        self.record(self, g)


@pytest.fixture
def stage(compiled):
    def make(record, *, parts=None, **options) -> Stage:
        return Stage(compiled(Program(record), **(parts or {})), **options)

    return make


def ends(stage: Stage) -> list[tuple[str, str]]:
    return [(end.region, end.how) for end in stage.wire.ended()]


def assert_sound(stage: Stage) -> None:
    """Nothing is left, and every frame ended once."""
    for node in stage.wire.nodes.values():
        engine = node._engine
        assert node.live_frames == 0
        assert engine.payload_held == 0
        assert not engine.post.outgoing
        assert not node.waiting
        assert not node.busy
        assert engine.timers.next() is None
    told = Counter((peer, s.frame) for peer, s in stage.wire.steps if isinstance(s, FrameEnded))
    assert not told or set(told.values()) == {1}


def fit(m: Any, g: bb.Graph) -> Any:
    return m.model.fit(g, m.data.batches(g))


ONES = {"data": {"value": 1.0}}


# loop


@pytest.mark.parametrize(
    ("times", "turns"),
    [(3, 3), (1, 1), (0, 0), (-4, 0), (np.array(2), 2), (np.array([2]), 2), (np.int64(2), 2)],
)
def test_a_loop_makes_as_many_turns_as_it_is_told(stage, times, turns):
    def record(m, g):
        with g.loop(g.input("n", ANY)) as turn:
            g.output("turn", turn)

    s = stage(record, clients=0)
    s.run(n=times)
    assert s.wire.outputs("turn") == list(range(1, turns + 1))
    assert ends(s) == [("@loop", "done")] * turns + [("main", "done")]
    assert_sound(s)


@pytest.mark.parametrize("times", [True, 1.5, "3", None, np.array([1, 2]), np.array(1.0), [3]])
def test_what_is_no_whole_number_of_turns_fails_the_frame(stage, times):
    def record(m, g):
        with g.loop(g.input("n", ANY)) as turn:
            g.output("turn", turn)

    s = stage(record, clients=0)
    s.run(n=times)
    (failure,) = s.wire.failures()
    assert isinstance(failure.error, OpError)
    assert failure.op == "Loop"
    assert failure.error.expected == "a whole number, or a tensor of one"
    assert ends(s) == [("main", "failed")]
    assert_sound(s)


def test_a_constant_number_of_turns_and_until_whichever_is_first(stage):
    def record(m, g):
        stop = g.input("stop", "int64")
        with g.loop(4) as turn:
            turn.until(turn >= stop)
            g.output("turn", turn)  # the turn itself goes on to its end

    s = stage(record, clients=0)
    s.run(stop=2)
    assert s.wire.outputs("turn") == [1, 2]
    s.run(stop=9)
    assert s.wire.outputs("turn") == [1, 2, 1, 2, 3, 4]


def test_until_takes_a_tensor_of_one_bool_and_nothing_else(stage):
    def record(m, g):
        flag = g.input("flag", ANY)
        with g.loop(3) as turn:
            turn.until(flag)
            g.output("turn", turn)

    s = stage(record, clients=0)
    s.run(flag=np.array([True]))
    assert s.wire.outputs("turn") == [1]
    s.run(flag=np.array(False))
    assert s.wire.outputs("turn") == [1, 1, 2, 3]
    for wrong in (1, "yes", np.array([True, False]), np.array(1), None):
        s.wire.steps.clear()
        s.run(flag=wrong)
        (failure,) = s.wire.failures()
        assert failure.op == "Until"
        assert "the condition is a" in failure.error.found
        assert ends(s) == [("@loop", "failed"), ("main", "failed")]
    assert_sound(s)


def test_state_between_turns_lives_in_slots_and_what_follows_runs_after_the_last(stage):
    def record(m, g):
        m.model.params(g)
        with g.loop(3):
            fit(m, g)
        g.output("w", m.model.params(g))

    s = stage(record, clients=0, config=ONES)
    s.run()
    assert s.wire.outputs("w")[0]["w"].tolist() == [9.0] * 3
    assert s.server.component("model").methods == ["params", "fit", "fit", "fit", "params"]


def test_turns_begin_when_the_one_before_has_ended_replies_included(stage):
    def record(m, g):
        with g.loop(2):
            got = g.net_out("weights", m.peers.current_view(g), m.model.params(g))
            m.model.load_params(g, got)
            reply = g.net_out("update", g.sender(got), m.model.params(g))
            m.model.load_params(g, reply)
        g.output("w", m.model.params(g))

    s = stage(record, clients=2)
    s.invoke()
    assert len(s.wire.flying) == 2
    while len(s.wire.flying) < 3 and not s.wire.outputs("w"):
        before = [p.source for p in s.wire.flying].count(s.server.peer)
        s.wire.deliver()
        asked = [c.method for c in s.server.component("peers").calls]
        done = s.server.component("model").methods.count("load_params")
        # The second view is asked for only once both answers to the first came.
        assert len(asked) == 1 + (done >= 2)
        assert before <= 2
        if not s.wire.flying:
            break
    s.wire.run()
    assert s.server.component("model").methods == [
        "params", "load_params", "load_params", "params", "load_params", "load_params", "params",
    ]  # fmt: skip
    assert_sound(s)


# each


def test_each_gives_the_batches_in_order_as_pairs(stage):
    def record(m, g):
        with g.each(m.data.batches(g, epochs=2)) as (x, y):
            g.output("x", x)
            g.output("y", y)

    s = stage(record, clients=0, config=ONES)
    s.run()
    assert [x.tolist() for x in s.wire.outputs("x")] == [[[1.0]] * 3] * 2
    assert [y.tolist() for y in s.wire.outputs("y")] == [[0.0] * 3] * 2


@pytest.mark.parametrize("values", [[], [1, "two", None], (1, 2), np.arange(3.0), np.ones((2, 2))])
def test_each_gives_the_items_of_what_it_is_given(stage, values):
    def record(m, g):
        with g.each(g.input("values", ANY)) as item:
            g.output("item", item)

    s = stage(record, clients=0)
    s.run(values=values)
    assert len(s.wire.outputs("item")) == len(values)
    for found, wanted in zip(s.wire.outputs("item"), values, strict=True):
        assert np.array_equal(found, wanted)
    assert_sound(s)


def test_each_over_peers_gives_lists_of_one_that_can_be_sent_to(stage):
    def record(m, g):
        with g.each(m.peers.current_view(g)) as peer:
            g.output("peer", peer)
            got = g.net_out("weights", peer, m.model.params(g))
            back = g.net_out("update", g.sender(got), m.model.params(g))
            m.model.load_params(g, back)

    s = stage(record)
    s.run()
    assert s.wire.outputs("peer") == [(peer,) for peer in s.peers]
    assert s.server.component("model").methods == ["params", "load_params"] * 3
    assert_sound(s)


@pytest.mark.parametrize("values", [7, None, np.array(1.0)])
def test_each_over_what_has_no_items_fails_the_frame(stage, values):
    def record(m, g):
        with g.each(g.input("values", ANY)) as item:
            g.output("item", item)

    s = stage(record, clients=0)
    s.run(values=values)
    (failure,) = s.wire.failures()
    assert failure.op == "Each"
    assert "has no items" in failure.error.found
    assert ends(s) == [("main", "failed")]


class Given(ListSource):
    """A source whose batches are what a test sets."""

    drawn: Callable[[], Iterator[Any]]

    def batches(self, ctx, *, epochs=1):
        return Batches(3, self.drawn)


def drawing(stage, record, drawn, **options) -> Stage:
    parts = {"data": Given, **options.pop("parts", {})}
    made = stage(record, clients=0, parts=parts, **options)
    made.server.component("data").drawn = drawn
    return made


@pytest.mark.parametrize("item", [(1, 2, 3), (1,), 7, "ab", np.ones((2, 3)), None])
def test_a_batch_that_is_no_pair_fails_the_frame(stage, item):
    def drawn():
        yield (1, 2)
        yield item

    def record(m, g):
        with g.each(m.data.batches(g)) as (x, y):
            g.output("x", x)
            g.output("y", y)

    s = drawing(stage, record, drawn)
    s.run()
    (failure,) = s.wire.failures()
    assert isinstance(failure.error, OpError)
    assert failure.op == "Each"
    assert failure.error.expected == "a pair: inputs and labels"
    assert ends(s) == [("@each", "done"), ("main", "failed")]
    assert_sound(s)


@pytest.mark.parametrize("good", [0, 2])
def test_an_iterator_that_raises_fails_the_frame_and_nothing_else(stage, good):
    def drawn():
        for _ in range(good):
            yield (1, 2)
        raise OSError("the disk is gone")

    def record(m, g):
        with g.each(m.data.batches(g)) as (x, y):
            g.output("x", x)
            g.output("y", y)

    s = drawing(stage, record, drawn)
    s.run()
    (failure,) = s.wire.failures()
    assert isinstance(failure.error, OSError)
    assert failure.op == "Each"
    assert Path(failure.source.file).name == Path(__file__).name
    assert ends(s) == [("@each", "done")] * good + [("main", "failed")]
    s.run()
    assert len(s.wire.failures()) == 2
    assert_sound(s)


@pytest.mark.parametrize("good", [0, 1])
def test_an_interrupt_in_an_iterator_passes_through_and_leaves_the_node_broken(stage, good):
    def drawn():
        for _ in range(good):
            yield (1, 2)
        raise KeyboardInterrupt

    def record(m, g):
        with g.each(m.data.batches(g)) as (x, y):
            g.output("x", x)
            g.output("y", y)

    s = drawing(stage, record, drawn)
    with pytest.raises(KeyboardInterrupt):
        s.invoke()
    with pytest.raises(NodeBroken):
        s.server.poll()


def test_an_iterator_is_closed_when_its_frame_ends_early(stage):
    closed = []

    def drawn():
        try:
            while True:
                yield (1, 2)
        finally:
            closed.append(True)

    def record(m, g):
        with g.each(m.data.batches(g)) as (x, _):
            m.model.forward(g, x)

    s = drawing(stage, record, drawn, config={"model": {"fail_in": "forward"}})
    s.run()
    gc.collect()
    assert closed == [True]


# when


@pytest.mark.parametrize("flag", [True, False, np.array(True), np.array([False]), np.bool_(1)])
def test_when_runs_its_turn_if_the_flag_is_true(stage, flag):
    def record(m, g):
        flag = g.input("flag", ANY)
        with g.when(flag):
            fit(m, g)
            g.output("inside", flag)
        g.output("w", m.model.params(g))

    s = stage(record, clients=0, config=ONES)
    s.run(flag=flag)
    assert len(s.wire.outputs("inside")) == bool(flag)
    assert s.wire.outputs("w")[0]["w"][0] == 3.0 * bool(flag)
    assert_sound(s)


@pytest.mark.parametrize("flag", [1, 0, "", None, [], np.array([True, True]), np.array(1)])
def test_when_takes_no_truthiness(stage, flag):
    def record(m, g):
        flag = g.input("flag", ANY)
        with g.when(flag):
            g.output("inside", flag)

    s = stage(record, clients=0)
    s.run(flag=flag)
    (failure,) = s.wire.failures()
    assert failure.op == "When"
    assert failure.error.expected == "a truth value, or a tensor of one bool"
    assert ends(s) == [("main", "failed")]


def test_a_return_address_is_answered_from_a_when_or_the_asker_is_told(stage):
    def record(m, g):
        limit = g.input("limit", "int64")
        got, most = g.net_out("weights", m.peers.current_view(g), m.model.params(g), limit)
        m.model.load_params(g, got)
        with g.when(most > 0):
            fit(m, g)
            reply = g.net_out("update", g.sender(got), m.model.params(g))
        m.model.load_params(g, reply)
        done = g.gather(reply, quorum=0.5, wait="all", deadline="30s")
        g.output("count", done.count)

    s = stage(record)
    s.run(limit=1)
    assert s.wire.outputs("count") == [3]
    s.wire.steps.clear()
    frame = s.run(limit=0)
    assert s.wire.outputs("count") == []
    assert s.end_of(frame).reason == "QuorumNotMet"  # at once: no clock moved
    assert_sound(s)


def test_a_when_that_fails_tells_the_asker(stage):
    def record(m, g):
        got = g.net_out("weights", m.peers.current_view(g), m.model.params(g))
        with g.when(g.scalar(True)):
            fit(m, g)
            reply = g.net_out("update", g.sender(got), m.model.params(g))
        m.model.load_params(g, reply)
        g.output("missing", g.gather(reply, quorum=0.5, wait="all").missing)

    s = stage(record, each={1: {"model": {"fail_in": "fit"}}})
    s.run()
    assert s.wire.outputs("missing") == [(s.peers[1],)]
    assert [f.op for f in s.wire.failures()] == ["Fit"]
    assert [e.how for e in s.wire.ended(s.peers[1])] == ["failed", "failed"]
    assert_sound(s)


def test_blocks_in_the_children_that_replies_open(stage):
    def record(m, g):
        got = g.net_out("weights", m.peers.current_view(g), m.model.params(g))
        m.model.load_params(g, got)
        with g.loop(2):
            fit(m, g)
        reply, metrics = g.net_out("update", g.sender(got), m.model.params(g), fit(m, g))
        with g.loop(2, name="twice") as turn:
            m.aggregator.contribute(g, reply, metrics)
        arrived = g.gather(g.last(turn), values=True)
        g.output("turns", arrived.values)
        mean, _ = m.aggregator.aggregate(g, after=arrived)
        g.output("mean", mean)

    s = stage(record, config=ONES)
    s.run()
    assert s.wire.failures() == []
    assert s.wire.outputs("turns") == [[2, 2, 2]]
    assert s.server.component("aggregator").methods.count("contribute") == 6
    of_clients = [node.component("model").methods for node in s.clients]
    assert [sorted(one) for one in of_clients] == [
        ["fit", "fit", "fit", "load_params", "params"]
    ] * 3
    assert s.wire.outputs("mean")[0]["w"].tolist() in ([6.0] * 3, [9.0] * 3)
    assert_sound(s)


# What comes out


def test_last_and_gather_bring_values_of_turns_out(stage):
    def record(m, g):
        with g.loop(g.input("n", "int64")) as turn:
            square = turn * turn
        g.output("last", g.last(square, g.scalar(-1)))
        every = g.gather(square, values=True)
        g.output("all", every.values)
        g.output("count", g.gather(turn).count)

    s = stage(record, clients=0)
    s.run(n=3)
    s.run(n=0)
    assert s.wire.outputs("last") == [9, -1]
    assert s.wire.outputs("all") == [[1, 4, 9], []]
    assert s.wire.outputs("count") == [3, 0]


def test_last_without_a_default_fails_when_no_turn_ran_and_says_where(stage):
    def record(m, g):
        with g.each(g.input("values", ANY)) as item:
            g.output("item", item)
        g.output("last", g.last(item))

    s = stage(record, clients=0)
    s.run(values=[5])
    assert s.wire.outputs("last") == [5]
    s.run(values=[])
    (failure,) = s.wire.failures()
    assert isinstance(failure.error, NoTurn)
    line = test_last_without_a_default_fails_when_no_turn_ran_and_says_where.__code__.co_firstlineno
    assert Path(failure.source.file).name == Path(__file__).name
    assert failure.source.line == line + 4
    assert_sound(s)


def test_a_value_taken_out_of_nested_blocks(stage):
    def record(m, g):
        with g.loop(3, name="outer") as a:
            with g.loop(a - 1, name="inner") as b:
                x = a * 10 + b
            y = g.last(x, a)
            row = g.gather(x, values=True)
        g.output("last", g.last(y))
        g.output("rows", g.gather(row.values, values=True).values)

    s = stage(record, clients=0)
    s.run()
    assert s.wire.outputs("last") == [32]
    assert s.wire.outputs("rows") == [[[], [21], [31, 32]]]


def test_a_when_inside_a_loop_may_end_the_loop(stage):
    def record(m, g):
        with g.loop() as turn:
            with g.when(turn > 2):
                turn.until(turn > 2)
                g.output("over", turn)
            g.output("turn", turn)

    s = stage(record, clients=0)
    s.run()
    assert s.wire.outputs("over") == [3]
    assert s.wire.outputs("turn") == [1, 2, 3]
    assert_sound(s)


def test_a_reply_may_end_the_loop_that_asked(stage):
    def record(m, g):
        with g.loop() as turn:
            got = g.net_out("weights", m.peers.sample(g, n=1), m.model.params(g))
            m.model.load_params(g, got)
            metrics = g.net_out("update", g.sender(got), fit(m, g))
            turn.until(metrics["loss"] < turn)
        g.output("turns", g.gather(turn).count)

    s = stage(record, clients=1, config=ONES)
    s.run()
    assert s.wire.failures() == []
    assert s.wire.outputs("turns") == [4]
    assert_sound(s)


# Failures, deadlines and ends


def test_a_turn_that_fails_takes_its_frame_with_it_once(stage):
    def record(m, g):
        with g.loop(3, name="outer") as a, g.loop(2, name="inner") as b:
            g.output("at", a * 10 + b)
            with g.when((a * 10 + b).equals(21)):
                fit(m, g)
        g.output("never", g.last(a))

    s = stage(record, clients=0, config={"model": {"fail_in": "fit"}})
    frame = s.run()
    assert s.wire.outputs("at") == [11, 12, 21]
    (failure,) = s.wire.failures()
    assert failure.op == "Fit"
    assert ends(s)[-4:] == [
        ("@when", "failed"), ("@inner", "failed"), ("@outer", "failed"), ("main", "failed"),
    ]  # fmt: skip
    assert s.end_of(frame).reason == "ValueError"
    assert s.wire.outputs("never") == []
    assert_sound(s)


def test_the_frame_stops_for_its_turn_although_other_ops_could_go_on(stage):
    def record(m, g):
        with g.loop(1):
            fit(m, g)
        x, _ = m.data.next_batch(g)
        g.output("x", x)

    s = stage(record, clients=0, config={"model": {"fail_in": "fit"}})
    s.run()
    assert ends(s) == [("@loop", "failed"), ("main", "failed")]
    assert len(s.wire.failures()) == 1


def test_a_frame_that_fails_beside_its_turn_cancels_it(stage):
    def record(m, g):
        with g.loop(1):
            g.output("turn", fit(m, g)["loss"])
        m.peers.current_view(g)

    s = stage(record, clients=0, config={"peers": {"fail_in": "current_view"}})
    s.run()
    assert ends(s) == [("@loop", "cancelled"), ("main", "failed")]
    assert len(s.wire.failures()) == 1
    assert_sound(s)


def asks_in_a_loop(deadline: str = "", asking: str = ""):
    def record(m, g):
        with g.loop(2, deadline=deadline):
            got = g.net_out("weights", m.peers.current_view(g), m.model.params(g))
            m.model.load_params(g, got)
            back = g.net_out("update", g.sender(got), m.model.params(g), deadline=asking)
            m.model.load_params(g, back)
        g.output("w", m.model.params(g))

    return record


def test_the_deadline_of_a_block_is_for_all_its_turns(stage):
    s = stage(asks_in_a_loop("5s"), clients=1)
    frame = s.invoke()
    s.wire.advance(3 * SECOND)
    s.wire.deliver()
    s.wire.deliver()  # the second turn asks
    assert ends(s)[-1] == ("@loop", "done")
    s.wire.lose()
    s.wire.advance(2 * SECOND - 1)
    assert s.wire.failures() == []
    s.wire.advance(1)
    (failure,) = s.wire.failures()
    assert isinstance(failure.error, DeadlineExceeded)
    assert failure.op == "Loop"
    assert "in its turn 2" in failure.error.found
    assert s.end_of(frame) == FrameEnded(s.main, "main", frame, "failed", "DeadlineExceeded")
    assert ends(s).count(("@loop", "cancelled")) == 1
    assert_sound(s)


def test_the_deadline_of_a_block_that_ended_in_time_does_nothing(stage):
    s = stage(asks_in_a_loop("5s"), clients=1)
    s.run()
    s.wire.advance(6 * SECOND)
    assert s.wire.failures() == []
    assert len(s.wire.outputs("w")) == 1


def test_a_turn_or_frame_whose_deadline_passes_ends_with_all_that_belongs_to_it(stage):
    s = stage(asks_in_a_loop(), clients=1)
    frame = s.invoke()
    s.wire.lose()
    s.wire.advance(3600 * SECOND)
    assert s.end_of(frame).how == "expired"
    assert ends(s) == [("@loop", "expired"), ("main", "expired")]
    assert s.wire.failures() == []
    assert_sound(s)


def test_answers_to_a_turn_that_ended_are_dropped(stage):
    s = stage(asks_in_a_loop("5s"), clients=1)
    s.invoke()
    s.wire.deliver()
    s.wire.advance(5 * SECOND)
    s.wire.run()
    assert s.server.counters == {"late": 1}
    assert_sound(s)


def test_a_gather_that_fires_cancels_the_turns_of_replies_that_nobody_waits_for(stage):
    def record(m, g):
        got = g.net_out("weights", m.peers.current_view(g), m.model.params(g))
        reply = g.net_out("update", g.sender(got), got)
        with g.loop(1) as turn:
            more = g.net_out("more", g.sender(reply), reply)
            back = g.net_out("last", g.sender(more), more)
            m.model.load_params(g, back)
        g.output("count", g.gather(g.last(turn), quorum=1).count)

    s = stage(record, clients=2)
    s.invoke()
    for _ in range(2):
        s.wire.deliver()  # the request
    for _ in range(2):
        s.wire.deliver()  # the replies: two children with a turn each
    own = [packet.ship.to for packet in s.wire.flying]
    assert own == s.peers
    while any(s.peers[0] in (p.source, p.ship.to) for p in s.wire.flying):
        here = [s.peers[0] in (p.source, p.ship.to) for p in s.wire.flying]
        s.wire.deliver(here.index(True))
    assert s.wire.outputs("count") == [1]
    assert Counter(e.how for e in s.wire.ended(s.server.peer) if e.region == "@loop") == {
        "done": 1, "cancelled": 1,
    }  # fmt: skip
    s.wire.run()
    assert s.wire.failures() == []
    assert_sound(s)


def test_a_frame_that_only_waits_for_a_gather_nobody_reads_ends_at_its_deadline(stage):
    def record(m, g):
        got = g.net_out("weights", m.peers.current_view(g), m.model.params(g))
        back = g.net_out("update", g.sender(got), got)
        g.gather(back, deadline="5s", on_short="continue")

    s = stage(record, clients=2)
    frame = s.invoke()
    s.wire.lose()
    s.wire.run()
    assert s.server.live_frames == 1
    s.wire.advance(5 * SECOND)
    assert s.end_of(frame).how == "done"
    assert_sound(s)


# Bounds, memory and draws


def test_thousands_of_local_turns_neither_recurse_nor_keep_their_values(stage):
    alive: list[int] = []

    class Thing:
        count = 0

        def __init__(self) -> None:
            Thing.count += 1

        def __del__(self) -> None:
            Thing.count -= 1

    def drawn():
        for _ in range(5000):
            alive.append(Thing.count)
            yield Thing(), Thing()

    def record(m, g):
        with g.each(m.data.batches(g)) as (x, y):
            with g.when(g.scalar(True)):
                g.publish("nobody", x)
            g.publish("nobody", y)

    s = drawing(stage, record, drawn)
    s.run()
    assert s.wire.failures() == []
    assert len(alive) == 5000
    assert max(alive) <= 2
    assert Thing.count == 0
    assert ends(s).count(("@each", "done")) == 5000
    assert_sound(s)


class Keeping(CountingModel):
    """Looks, in `fit`, which of its parameters are still held."""

    def __init__(self, config, env):
        super().__init__(config, env)
        self.made: list[Any] = []
        self.alive: list[bool] = []

    def params(self, ctx):
        out = super().params(ctx)
        self.made.append(weakref.ref(out["w"].base))
        return out

    def fit(self, ctx, batches):
        self.alive = [one() is not None for one in self.made]
        return super().fit(ctx, batches)


def test_values_that_left_a_block_are_dropped_after_their_last_reader(stage):
    def record(m, g):
        with g.loop(2):
            params = m.model.params(g)
        m.model.load_params(g, g.last(params))
        fit(m, g)

    s = stage(record, clients=0, parts={"model": Keeping})
    s.run()
    assert s.wire.failures() == []
    assert s.server.component("model").alive == [False, False]


class Dice(CountingModel):
    """Writes down what it draws."""

    def __init__(self, config, env):
        super().__init__(config, env)
        self.drawn: list[int] = []

    def fit(self, ctx, batches):
        self.drawn += [int(ctx.rng().integers(1 << 60)) for _ in range(2)]
        return super().fit(ctx, batches)


def test_every_turn_draws_its_own_numbers_whatever_else_runs(stage):
    def record(m, g):
        with g.loop(3, name="outer"), g.loop(2, name="inner"):
            fit(m, g)

    def beside(m, g):
        record(m, g)
        with g.on("noise") as event:
            m.data.batches(g)
            g.output("noise", event)

    def drawn(s, noise=0):
        s.invoke()
        for n in range(noise):
            s.server.publish("noise", n)
        s.run()
        return s.server.component("model").drawn

    first = drawn(stage(record, clients=0, parts={"model": Dice}, seed=4))
    again = drawn(stage(record, clients=0, parts={"model": Dice}, seed=4))
    noisy = drawn(stage(beside, clients=0, parts={"model": Dice}, seed=4), noise=5)
    other = drawn(stage(record, clients=0, parts={"model": Dice}, seed=5))
    assert len(set(first)) == len(first) == 24
    assert first == again == noisy
    assert not set(first) & set(other)


def test_frames_that_envelopes_open_draw_their_own_numbers_in_their_turns_too(stage):
    def record(m, g):
        got = g.net_out("weights", m.peers.current_view(g), m.model.params(g))
        m.model.load_params(g, got)
        with g.loop(2):
            fit(m, g)

    def drawn(seed):
        s = stage(record, clients=2, parts={"model": Dice}, seed=seed)
        s.run()
        s.run()
        return [one for node in s.clients for one in node.component("model").drawn]

    first = drawn(1)
    assert len(set(first)) == len(first) == 16
    assert first == drawn(1)
    assert not set(first) & set(drawn(2))


def test_many_frames_with_blocks_leave_nothing(stage):
    s = stage(asks_in_a_loop("5s"), clients=2)
    for n in range(60):
        s.invoke()
        if n % 3 == 0:
            s.wire.lose()
        if n % 4 == 0 and s.wire.flying:
            s.wire.deliver(keep=True)
        s.wire.run()
        s.wire.advance(5 * SECOND)
        s.wire.run()
        assert_sound(s)
        s.wire.steps.clear()
    assert len(s.server._engine.timers.heap) < 400


def test_a_budget_cuts_between_turns(stage):
    def record(m, g):
        with g.loop(50) as turn:
            g.output("turn", turn)

    s = stage(record, clients=0)
    s.server.invoke(s.main, {})
    seen = 0
    while s.server.busy:
        found = s.server.poll(max_ops=3)
        assert len(found) <= 12
        seen += len(found)
    assert seen == 101


def test_a_frame_of_a_block_is_carried_by_the_bus_as_well(stage):
    s = stage(asks_in_a_loop(), clients=3)
    bus = LocalBus(s.server, *s.clients)
    s.server.invoke(s.main)
    bus.run()
    assert_sound(s)
