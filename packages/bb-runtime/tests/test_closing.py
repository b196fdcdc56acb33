"""The end of a Node: nothing new starts, what is in flight finishes, and `Closed` is last."""

from collections import Counter
from typing import Any

import pytest

import bb_dsl as bb
from bb_ir.ids import PeerId
from bb_ir.wire import DEFAULT_LIMITS, PRELUDE_SIZE, Failed, Leaving, read_header, read_prelude
from bb_runtime import (
    BlockEnded,
    Closed,
    Dropped,
    FrameEnded,
    LocalBus,
    Node,
    Refuse,
    Ship,
    install,
)
from bb_runtime.errors import NodeBroken, NodeClosed
from bb_runtime.replay import replay
from bb_testing.programs import CountingModel, Stage

SECOND = 10**9


class Program(bb.Module):
    """Whatever a test records."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def __init__(self, record) -> None:
        super().__init__()
        self.record = record

    def body(self, g: bb.Graph) -> None:
        self.record(self, g)


class Slow(CountingModel):
    """Defers `fit`."""

    defers = ("fit",)

    def fit(self, ctx, batches) -> Any:
        return ctx.defer(lambda: {"examples": 1, "loss": 1.0})


def asks(m: Any, g: bb.Graph) -> None:
    got = g.net_out("ask", m.peers.sample(g, 3), m.model.params(g))
    back = g.net_out("tell", g.sender(got), got)
    g.output("count", g.gather(back, quorum=1, wait="all", on_short="continue").count)


@pytest.fixture
def stage(compiled):
    def make(record=asks, *, parts=None, **more) -> Stage:
        return Stage(compiled(Program(record), **(parts or {})), **more)

    return make


def control_of(ship: Ship) -> Any:
    data = memoryview(ship.envelope.head)
    prelude = read_prelude(data[:PRELUDE_SIZE], DEFAULT_LIMITS)
    return read_header(prelude, data[PRELUDE_SIZE:], DEFAULT_LIMITS).control


def told(s: Stage, node: Node | None = None) -> list[Any]:
    """Return what a Node reported, the last steps included."""
    node = node or s.server
    s.wire.take(node, node.poll())
    return [step for peer, step in s.wire.steps if peer == node.peer]


def hows(steps: list[Any]) -> Counter[tuple[str, str]]:
    return Counter((step.how, step.reason) for step in steps if isinstance(step, FrameEnded))


# At once


def test_a_node_that_does_nothing_is_closed_at_once(stage):
    s = stage()
    assert not s.server.closed
    s.server.close()
    assert s.server.closed
    assert s.server.component("model").closed == 1
    assert s.server.poll() == [Closed(0, 0, 0, 0, 0)]
    assert s.server.poll() == []
    assert s.server.next_wakeup() is None
    s.server.close()
    s.server.close("5s")
    assert s.server.component("model").closed == 1
    assert s.server.poll() == []


def test_what_is_in_flight_is_cancelled_at_once_without_a_time(stage):
    s = stage()
    s.invoke()
    s.invoke()
    s.server.close()
    steps = told(s)
    assert steps[-1] == Closed(finished=0, failed=0, cancelled=2, dropped=0, works=0)
    assert hows(steps) == {("cancelled", "closing"): 2}
    assert not s.server.live_frames
    assert not s.server.waiting


def test_nothing_enters_a_closed_node(stage):
    s = stage()
    s.invoke()
    answers = list(s.wire.flying)
    for _ in range(3):
        s.wire.deliver()
    client = s.clients[0]
    data = answers[0].ship.envelope.to_bytes()
    snapshot = client.snapshot()
    client.close()
    client.poll()

    peer = s.server.peer
    for call in (
        lambda: client.invoke("Program.client"),
        lambda: client.publish("topic"),
        client.run_bootstrap,
        client.pause,
        client.resume,
        client.snapshot,
        lambda: client.restore(snapshot),
        lambda: client.authorize(peer, "server"),
        lambda: client.block_peer(peer),
        lambda: client.unblock(peer),
        lambda: client.add_peer(peer, []),
        lambda: client.add_record(b""),
        lambda: client.add_hint(peer, peer, []),
    ):
        with pytest.raises(NodeClosed, match="is closed"):
            call()
    for times in (1, 2):
        answer = client.receive_bytes(data, peer)
        assert isinstance(answer, Refuse)
        assert answer.reason == "closed"
        assert client.counters["closed"] == times
    client.advance(3600 * SECOND)
    assert client.poll() == []
    assert not client.sent(answers[0].ship)
    client.send_failed(answers[0].ship)
    assert client.poll() == [], "the last step was told"


def test_what_no_component_can_do_is_raised_when_there_is_no_time(stage):
    s = stage(parts={"model": ClosesBadly})
    with pytest.raises(ValueError, match="cannot close"):
        s.server.close()
    assert s.server.closed
    assert told(s)[-1] == Closed(0, 0, 0, 1, 0)


class ClosesBadly(CountingModel):
    """Cannot be closed."""

    def close(self) -> None:
        raise ValueError("cannot close")


def test_a_broken_node_is_closed(stage):
    s = stage(config={"model": {"interrupt_in": "params"}})
    s.server.invoke(s.main)
    with pytest.raises(KeyboardInterrupt):
        s.server.poll()
    s.server.close("5s")
    assert s.server.closed
    assert s.server.component("model").closed == 1
    assert s.server.next_wakeup() is None
    with pytest.raises(NodeBroken):
        s.server.poll()


# In time


def test_frames_in_flight_finish(stage):
    s = stage()
    frame = s.invoke()
    s.server.close("5s")
    assert not s.server.closed
    assert s.server.waiting
    assert s.server.component("model").closed == 0
    s.wire.run()

    assert s.server.closed
    assert s.end_of(frame).how == "done"
    assert s.wire.outputs("count") == [3]
    assert told(s)[-1] == Closed(finished=4, failed=0, cancelled=0, dropped=0, works=0)
    assert s.server.component("model").closed == 1


def test_when_the_time_is_over_frames_are_cancelled(stage):
    s = stage()
    frame = s.invoke()
    s.server.advance(SECOND)
    s.server.close("5s")
    assert s.server.next_wakeup() == 6 * SECOND
    s.wire.lose()
    s.server.advance(6 * SECOND - 1)
    assert not s.server.closed
    s.server.advance(6 * SECOND)

    assert s.server.closed
    assert (s.end_of(frame) if told(s) else None).reason == "closing"
    assert told(s)[-1] == Closed(0, 0, 1, 0, 0)


def test_the_shorter_time_counts(stage):
    s = stage()
    s.invoke()
    s.server.close("5s")
    s.server.close("1m")
    assert s.server.next_wakeup() == 5 * SECOND
    s.server.close("2s")
    assert s.server.next_wakeup() == 2 * SECOND
    s.server.close()
    assert s.server.closed


def test_a_wrong_time_is_refused_and_closes_nothing(stage):
    s = stage()
    with pytest.raises(ValueError, match="a number with one of the units"):
        s.server.close("soon")
    s.invoke()


def test_what_stands_in_line_never_starts(stage):
    s = stage()
    frames = [s.invoke() for _ in range(3)]
    s.server.close("5s")
    s.wire.run()
    assert [s.end_of(frame).how for frame in frames] == ["done", "cancelled", "cancelled"]
    assert told(s)[-1].cancelled == 2


def test_nothing_is_invoked_while_a_node_closes(stage):
    s = stage()
    s.invoke()
    s.server.close("5s")
    for call in (
        lambda: s.server.invoke(s.main),
        lambda: s.server.publish("topic"),
        s.server.pause,
        lambda: s.server.restore(b""),
    ):
        with pytest.raises(NodeClosed, match="closes"):
            call()
    s.server.authorize(s.peers[0], "client")


def test_a_paused_node_lets_go_on_what_is_to_finish(stage):
    s = stage(lambda m, g: g.output("loss", m.model.fit(g, m.data.batches(g))["loss"]),
              parts={"model": Slow}, clients=0)  # fmt: skip
    s.server.invoke(s.main)
    s.server.pause()
    s.wire.poll()
    assert not s.wire.works
    s.server.close("5s")
    s.wire.run()
    assert s.server.closed
    assert s.wire.outputs("loss") == [1.0]


# Who wants something from it


def test_a_node_that_is_asked_and_does_nothing_is_closed_at_once(stage):
    s = stage()
    s.run()
    s.invoke()
    s.clients[0].close("5s")
    assert s.clients[0].closed, "nothing has come to it yet"
    s.wire.poll()
    s.wire.deliver()
    assert s.clients[0].counters["closed"] == 1
    s.wire.run()
    assert s.wire.outputs("count") == [3, 2], "that it leaves ends the wait"


class Chain(bb.Module):
    """A client asks the server back while it is asked."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def body(self, g: bb.Graph) -> None:
        got = g.net_out("ask", self.peers.sample(g, 3), self.model.params(g))
        self.model.fit(g, self.data.batches(g, after=got))
        back = g.net_out("tell", g.sender(got), self.model.params(g))
        g.output("count", g.gather(back, quorum=1, wait="all", on_short="continue").count)


def test_while_a_frame_finishes_others_are_refused(compiled):
    s = Stage(compiled(Chain(), model=Slow), clients=2)
    first = s.invoke()
    while s.wire.flying:
        s.wire.deliver()
    client = s.clients[0]
    client.close("5s")
    assert not client.closed, "it works"
    s.server.invoke(s.main)
    s.server._engine.mains[s.main].limit = 2  # the next round does not wait for the first
    s.server._engine.reopen()
    s.wire.poll()
    for _ in range(2):
        s.wire.deliver()
    assert client.counters == {"closing": 1}
    assert (s.server.peer, "closing") in {
        (step.peer, step.reason) for step in told(s, client) if isinstance(step, Dropped)
    }
    s.wire.run()
    assert s.end_of(first).how == "done"
    assert sorted(s.wire.outputs("count")) == [1, 2]
    assert client.closed
    assert told(s, client)[-1] == Closed(finished=1, failed=0, cancelled=0, dropped=1, works=0)


def test_an_envelope_that_is_half_received_is_given_back(stage):
    s = stage(clients=1)
    s.invoke()
    [client] = s.clients
    [packet] = s.wire.flying
    head = memoryview(packet.ship.envelope.head)
    lease = client.offer(head[:PRELUDE_SIZE], head[PRELUDE_SIZE:], packet.source)
    client.close("5s")
    packet.ship.envelope.write_into(lease.buffer)
    client.receive(lease)
    steps = client.poll()
    assert [type(control_of(step)) for step in steps if isinstance(step, Ship)] == [Failed, Leaving]
    assert [step.reason for step in steps if isinstance(step, Dropped)] == ["closing"]
    assert client._engine.payload_held == 0


# Blocks and time


def test_blocks_stop(stage):
    def record(m, g):
        with g.rounds(9) as number:
            asks(m, g)
            g.output("round", number)
        with g.every("1s") as tick:
            g.output("tick", tick)
        with g.on("topic") as event:
            g.output("event", event)

    s = stage(record)
    s.invoke()
    s.wire.advance(SECOND)
    s.server.close("1h")
    s.wire.run()
    for _ in range(5):
        s.wire.advance(SECOND)
    assert s.wire.outputs("round") == [1]
    assert s.wire.outputs("tick") == [1]
    blocks = [step for step in told(s) if isinstance(step, BlockEnded)]
    assert sorted(b.turns for b in blocks) == [0, 1, 1]
    assert {b.how for b in blocks} == {"stopped"}
    assert s.server.closed


def test_a_block_that_would_start_later_does_not(stage):
    def record(m, g):
        count = g.gather(
            g.net_out("tell", g.sender(g.net_out("ask", m.peers.sample(g, 3), m.model.params(g)))),
        ).count
        with g.rounds(count) as number:
            g.output("round", number)

    s = stage(record)
    s.invoke()
    s.server.close("5s")
    s.wire.run()
    assert s.wire.outputs("round") == []
    assert [step.turns for step in told(s) if isinstance(step, BlockEnded)] == [0]
    assert told(s)[-1].failed == 0


def test_turns_and_sleeps_of_a_frame_in_flight_go_on(stage):
    def record(m, g):
        with g.loop(3) as turn:
            g.output("turn", g.sleep("1s", turn))

    s = stage(record, clients=0)
    frame = s.invoke()
    s.server.close("10s")
    for _ in range(3):
        s.wire.advance(SECOND)
    assert s.end_of(frame).how == "done"
    assert s.wire.outputs("turn") == [1, 2, 3]
    assert s.server.closed


class Boots(Program):
    """Asks somebody before anything else."""

    def bootstrap(self, g: bb.Graph) -> None:
        got = g.net_out("hello", self.peers.sample(g, 3), self.model.params(g))
        g.gather(g.net_out("hi", g.sender(got), got))


def test_bootstraps_end(compiled):
    s = Stage(compiled(Boots(asks)))
    s.server.run_bootstrap()
    s.invoke()
    s.server.close("5s")
    assert s.server.closed, "what waits for the bootstrap never starts"
    assert hows(told(s)) == {("cancelled", "closing"): 2}


# Peers


def test_peers_hear_that_a_node_leaves_when_it_has_come_to_its_end(stage):
    s = stage()
    s.invoke()
    while s.wire.flying and s.wire.flying[0].source == s.server.peer:
        s.wire.deliver()
    s.server.close("5s")
    assert all(p.source != s.server.peer for p in s.wire.flying), "answers are still wanted"
    for _ in range(3):
        s.wire.deliver()
    leaving = [p.ship for p in s.wire.flying]
    assert sorted(ship.to for ship in leaving) == sorted(s.peers)
    assert {type(control_of(ship)) for ship in leaving} == {Leaving}
    s.wire.run()
    assert all(client.counters["leaving"] == 1 for client in s.clients)


def leave(s: Stage, node: Node) -> None:
    """Close a Node, and let the server know."""
    node.close()
    s.wire.take(node, node.poll())
    s.wire.run()


def test_who_has_left_is_not_asked_and_nobody_waits_for_it(stage):
    s = stage()
    s.run()
    gone, *_ = s.clients
    s.invoke()
    asked = s.server._engine
    [frame] = asked.frames.values()
    assert frame.open_replies == 3
    s.wire.flying = [p for p in s.wire.flying if p.ship.to != gone.peer]
    leave(s, gone)
    assert s.wire.outputs("count") == [3, 2], "its answer failed at once"

    s.invoke()
    assert [p.ship.to for p in s.wire.flying] == s.peers[1:]
    assert s.server.counters["left"] == 1
    s.wire.run()
    assert s.wire.outputs("count") == [3, 2, 2]
    [row] = [row for row in s.server.peers() if row.peer == gone.peer]
    assert row.refused["left"] == 1
    assert row.gone


def test_a_round_of_those_who_left_falls_short_at_once(stage):
    s = stage(lambda m, g: g.output("count", g.gather(
        g.net_out("tell", g.sender(g.net_out("ask", m.peers.sample(g, 3), m.model.params(g)))),
    ).count))  # fmt: skip
    s.run()
    for client in s.clients:
        leave(s, client)
    frame = s.invoke()
    assert s.end_of(frame).reason == "QuorumNotMet"
    assert s.server.now_ns == 0


def test_a_larger_incarnation_is_there_again(stage):
    s = stage(lambda m, g: g.output("n", g.gather(g.net_out(
        "tell", g.sender(g.net_out("ask", m.peers.sample(g, 3), m.model.params(g))),
        m.model.params(g))).count))  # fmt: skip
    s.run()
    server = s.server
    server.close()
    s.wire.take(server, server.poll())
    s.wire.run()
    [client, *_] = s.clients
    assert server.peer in client._engine.gathers.gone
    for incarnation, there in ((1, False), (2, True)):
        s.server = s.makers[0](incarnation=incarnation)
        s.wire.nodes[server.peer] = s.server
        for peer in s.peers:
            s.server.authorize(peer, "client")
        s.invoke()
        s.wire.run()
        assert (server.peer not in client._engine.gathers.gone) == there
    assert s.wire.outputs("n") == [3, 3]


@pytest.mark.parametrize("word", ["authorize", "add_peer"])
def test_a_word_of_the_host_ends_it_too(stage, word):
    s = stage()
    s.run()
    leave(s, s.clients[0])
    given = ["client"] if word == "authorize" else [[]]
    getattr(s.server, word)(s.clients[0].peer, *given)
    s.invoke()
    assert len(s.wire.flying) == 3


def test_who_left_stays_so_in_a_snapshot(stage):
    s = stage()
    s.run()
    leave(s, s.clients[0])
    other = s.makers[0]()
    other.restore(s.server.snapshot())
    assert other._engine.gathers.gone == {s.clients[0].peer: 1}
    other.restore(s.server.snapshot())
    s.wire.nodes[other.peer] = s.server = other
    s.invoke()
    assert len(s.wire.flying) == 2


def test_strangers_do_not_leave(stage):
    s = stage()
    s.run()
    stranger = PeerId.from_seed(b"nobody")
    client = s.clients[0]
    client.close()
    [word] = [step for step in client.poll() if isinstance(step, Ship)]
    refused = s.server.receive_bytes(word.envelope.to_bytes(), stranger)
    assert refused.reason == "unexpected"
    assert s.server._engine.gathers.gone == {}


# Deferred work


def fits(m: Any, g: bb.Graph) -> None:
    g.output("loss", m.model.fit(g, m.data.batches(g))["loss"])


def test_deferred_work_may_come_back(stage):
    s = stage(fits, parts={"model": Slow}, clients=0)
    frame = s.invoke()
    s.server.close("5s")
    assert not s.server.closed
    s.wire.do()
    assert s.end_of(frame).how == "done"
    assert s.wire.outputs("loss") == [1.0]
    assert s.server.closed


def test_deferred_work_is_cancelled_at_the_end(stage):
    s = stage(fits, parts={"model": Slow}, clients=0)
    frame = s.invoke()
    s.server.close("5s")
    s.wire.advance(5 * SECOND)
    assert s.end_of(frame).how == "cancelled"
    assert told(s)[-1] == Closed(0, 0, 1, 0, works=1)
    s.wire.do()
    assert told(s)[-1] == Closed(0, 0, 1, 0, works=1), "what comes back later is not taken in"
    assert not len(s.server.inbox)


def test_work_that_nobody_wants_is_waited_for_too(stage):
    """Its component must not be closed under it."""
    s = stage(fits, parts={"model": Slow}, clients=0)
    s.invoke()
    [frame] = s.server._engine.frames.values()
    s.wire.advance(frame.deadline_ns)
    s.server.close("5s")
    assert not s.server.closed
    s.wire.do()
    assert s.server.closed
    assert told(s)[-1] == Closed(0, 0, 0, 0, 0)


def test_a_component_that_cannot_be_closed_is_told_of(stage):
    s = stage(parts={"model": ClosesBadly})
    s.invoke()
    s.server.close("5s")
    s.wire.run()
    assert s.server.closed
    assert s.server.counters["close_failed.ValueError"] == 1
    assert told(s)[-1].dropped == 1


# Sure envelopes


def test_answers_that_are_sent_until_they_are_acknowledged_are(stage):
    def record(m, g):
        got = g.net_out("ask", m.peers.sample(g, 1), m.model.params(g), retries=3)
        back = g.net_out("tell", g.sender(got), got)
        g.output("count", g.gather(back).count)

    s = stage(record, clients=1)
    s.invoke()
    [client] = s.clients
    s.wire.deliver()
    client.close("30s")
    assert not client.closed
    s.wire.flying = []  # the answer is lost, and is sent again
    s.wire.advance(5 * SECOND)
    s.wire.run()
    assert s.wire.outputs("count") == [1]
    assert client.closed
    assert client.now_ns < 30 * SECOND


# Written down


def test_a_node_that_closes_goes_on_closing_elsewhere(stage):
    s = stage()
    frame = s.invoke()
    s.server.advance(SECOND)
    s.server.close("5s")
    with pytest.raises(NodeClosed):
        s.server.restore(s.server.snapshot())
    other = s.makers[0]()
    other.restore(s.server.snapshot())
    s.wire.nodes[other.peer] = s.server = other
    assert other.next_wakeup() == 6 * SECOND
    with pytest.raises(NodeClosed):
        other.invoke(s.main)
    s.wire.run()
    assert s.end_of(frame).how == "done"
    assert told(s)[-1] == Closed(4, 0, 0, 0, 0)


def test_after_a_crash_a_node_does_not_close(stage):
    s = stage()
    s.invoke()
    s.server.close("5s")
    other = s.makers[0](incarnation=2)
    other.restore(s.server.snapshot(), clean=False)
    other.invoke(s.main)


def test_a_journal_of_a_node_that_closes_is_replayed(stage):
    s = stage(clients=0)
    log: list[bytes] = []
    node = install(
        s.server.peer, [], s.server._engine.artifact, [s.main],
        {"peers": {"peers": [PeerId.from_seed(b"client")]}}, journal=log.append,
    )  # fmt: skip
    node.invoke(s.main)
    node.poll()
    node.advance(SECOND)
    node.close("5s")
    node.poll()
    node.advance(7 * SECOND)
    last = node.poll()
    with pytest.raises(NodeClosed):
        node.invoke(s.main)
    assert isinstance(last[-1], Closed)
    done = replay(log)
    assert done.node.closed
    assert done.node.counters == node.counters


# Hosts


def test_a_bus_lets_go_of_a_node_that_closed(stage):
    s = stage()
    bus = LocalBus(s.server, *s.clients)
    s.server.invoke(s.main)
    bus.run()
    s.clients[0].close()
    events = bus.run()
    assert [e.step for e in events if isinstance(e.step, Closed)] == [Closed(0, 0, 0, 0, 0)]
    assert s.clients[0] not in bus.nodes
    assert s.server.counters["leaving"] == 1
    s.server.invoke(s.main)
    outputs = [e.step.value for e in bus.run() if getattr(e.step, "name", "") == "count"]
    assert outputs == [2]
    bus.add(s.makers[1](incarnation=2))
    for _ in range(2):  # what comes from it first says that it has restarted
        s.server.invoke(s.main)
        outputs = [e.step.value for e in bus.run() if getattr(e.step, "name", "") == "count"]
    assert outputs == [3]


def test_a_bus_lets_time_pass_for_a_node_that_closes(stage):
    s = stage(lambda _, g: g.output("x", g.sleep("1h", g.now())), clients=0)
    bus = LocalBus(s.server)
    s.server.invoke(s.main)
    bus.run(time=False)
    s.server.close("5s")
    steps = [event.step for event in bus.run()]
    assert steps[-1] == Closed(0, 0, 1, 0, 0)
    assert s.server.now_ns == 5 * SECOND
    assert bus.nodes == ()


def test_a_node_takes_the_place_of_one_that_closed(stage):
    s = stage()
    bus = LocalBus(s.server, *s.clients)
    s.server.close()
    bus.add(s.makers[0]())
    assert len(bus.nodes) == 4
    assert not any(node.closed for node in bus.nodes)
