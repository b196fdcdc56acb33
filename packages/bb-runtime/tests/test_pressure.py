"""More than a Node takes on, or a host can send, waits; nothing is lost, and nobody else waits."""

from typing import Any

import numpy as np
import pytest

import bb_dsl as bb
from bb_ir.address import Address
from bb_ir.ids import PeerId
from bb_ir.types import tensor
from bb_ir.wire import (
    DEFAULT_LIMITS,
    PRELUDE_SIZE,
    Later,
    Leaving,
    Stale,
    build_envelope,
    read_header,
    read_prelude,
)
from bb_runtime import Dropped, LocalBus, Options, Readable, install
from bb_runtime import Later as ComeLater
from bb_runtime.replay import replay
from bb_testing.programs import Stage, Wire

SECOND = 10**9
BIG = {"model": {"size": 10_000}}
#: What one envelope with the parameters of `BIG` has as a payload, roughly.
SIZE = 80_000


class Ask(bb.Module):
    """Asks clients for their parameters."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        got = g.net_out("ask", self.peers.sample(g, 3), self.model.params(g))
        done = self.model.load_params(g, got)
        back = g.net_out("tell", g.sender(got), self.model.params(g, after=done))
        g.output("count", self.all_of(g, back).count)

    def all_of(self, g: bb.Graph, back: bb.Output) -> bb.Gathered:
        return g.gather(back, quorum=1, wait="all", on_short="continue", deadline="20s")


class Stream(bb.Module):
    """Sends a client several things, which it works on one after the other."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        x = g.input("x", tensor("float64", (None,)))
        self.model.forward(g, g.net_out("push", self.peers.sample(g, 2), x))


@pytest.fixture(scope="module")
def ask(compiled) -> Any:
    return compiled(Ask())


@pytest.fixture(scope="module")
def stream(compiled) -> Any:
    return compiled(Stream())


def open_answers(stage: Stage) -> int:
    [frame] = stage.server._engine.frames.values()
    return frame.open_replies


def offer(node: Any, ship: Any, source: Any) -> Any:
    data = memoryview(ship.envelope.head)
    return node.offer(data[:PRELUDE_SIZE], data[PRELUDE_SIZE:], source)


def control_of(ship: Any) -> Any:
    data = memoryview(ship.envelope.head)
    prelude = read_prelude(data[:PRELUDE_SIZE], DEFAULT_LIMITS)
    return read_header(prelude, data[PRELUDE_SIZE:], DEFAULT_LIMITS).control


def tell(
    stage: Stage, node: Any, source: Any, control: Any, number: int = 10**6, **own: Any
) -> Any:
    program = bytes.fromhex(node._engine.artifact.program)[:16]
    given = {"incarnation": 1, **own}
    data = build_envelope(program, 0, message_id=number, control=control, **given)
    return node.receive_bytes(data.to_bytes(), source.peer)


# What comes in


def test_what_finds_no_room_comes_later_and_is_not_lost(stream):
    stage = Stage(stream, clients=2)
    for client in stage.clients:
        client._engine.options = Options(max_inbound_bytes=2 * SIZE)
    stage.invoke(x=np.ones(10_000))
    stage.invoke(x=np.ones(10_000))
    stage.invoke(x=np.ones(10_000))
    [client, _] = stage.clients
    mine = [p.ship for p in stage.wire.flying if p.ship.to == client.peer]
    first = offer(client, mine[0], stage.server.peer)
    assert offer(client, mine[1], stage.server.peer) == ComeLater("busy")
    assert client.counters["later"] == 1
    assert Readable(stage.server.peer) not in client.poll()

    mine[0].envelope.write_into(first.buffer)
    client.receive(first)
    assert Readable(stage.server.peer) in client.poll()
    stage.wire.run()
    assert client.component("model").methods == ["forward"] * 3
    assert not stage.wire.kept


def test_the_share_of_one_peer_leaves_the_rest_to_others(ask):
    stage = Stage(ask, clients=3, config=BIG, options=Options(max_inbound_bytes=8 * SIZE))
    stage.invoke()
    for _ in stage.clients:
        stage.wire.deliver()
    answers = stage.wire.flying
    server = stage.server
    lease = offer(server, answers[0].ship, answers[0].source)
    assert (
        server._engine.pressure.check(server._engine.peers.of(answers[0].source), SIZE, answer=True)
        == "later"
    )
    assert not isinstance(offer(server, answers[1].ship, answers[1].source), ComeLater)
    server.abandon(lease)


def test_what_can_never_find_room_is_refused(stream):
    stage = Stage(stream, clients=1)
    stage.clients[0]._engine.options = Options(max_inbound_bytes=SIZE // 2)
    stage.run(x=np.ones(10_000))
    assert stage.clients[0].counters == {"busy": 1}


def test_a_peer_that_overloads_us_is_told_and_slows_down(stream):
    stage = Stage(stream, clients=1)
    [client] = stage.clients
    client._engine.options = Options(max_frames=16)
    for _ in range(4):
        stage.invoke(x=np.ones(2))
    ships = [packet.ship for packet in stage.wire.flying]
    stage.wire.flying.clear()
    leases = [offer(client, ship, stage.server.peer) for ship in ships]
    assert [isinstance(lease, ComeLater) for lease in leases] == [False, False, True, True]
    [notice] = [s for s in client.poll() if hasattr(s, "envelope")]
    wait = control_of(notice)
    assert isinstance(wait, Later)
    assert wait.retry_ns >= SECOND

    stage.server.receive_bytes(notice.envelope.to_bytes(), client.peer)
    stage.invoke(x=np.ones(2))
    assert not stage.wire.flying, "it waits"
    assert stage.server.live_frames == 1, "and so does its frame"
    [row] = stage.server.peers()
    assert (row.waiting, row.quiet_ns) == (1, wait.retry_ns)
    stage.wire.advance(wait.retry_ns)
    assert len(stage.wire.flying) == 1
    assert stage.server.live_frames == 0


def test_notices_of_one_overload_come_seldom_and_each_asks_for_more_time(stream):
    stage = Stage(stream, clients=1)
    [client] = stage.clients
    client._engine.options = Options(max_frames=8)
    stage.invoke(x=np.ones(2))
    stage.invoke(x=np.ones(2))
    one, two = [packet.ship for packet in stage.wire.flying]
    offer(client, one, stage.server.peer)
    waits = []
    for _ in range(20):
        assert offer(client, two, stage.server.peer) == ComeLater("busy")
        waits += [control_of(s).retry_ns for s in client.poll() if hasattr(s, "envelope")]
        client.advance(client.now_ns + SECOND)
    assert len(waits) == 4
    assert waits == sorted(waits)


def test_a_bus_brings_it_later(ask):
    options = Options(max_inbound_bytes=SIZE * 9 // 8)
    stage = Stage(ask, clients=3, config=BIG, options=options)
    bus = LocalBus(stage.server, *stage.clients)
    stage.server.invoke(stage.main)
    events = bus.run()
    assert [e.step.value for e in events if getattr(e.step, "name", "") == "count"] == [3]
    assert not bus._kept


def test_a_lease_that_is_not_filled_is_taken_back(stream):
    stage = Stage(stream, clients=1)
    stage.invoke(x=np.ones(10_000))
    [client] = stage.clients
    lease = offer(client, stage.wire.flying[0].ship, stage.server.peer)
    assert client.next_wakeup() == 30 * SECOND
    client.advance(30 * SECOND - 1)
    assert client._engine.payload_held > 0
    client.advance(30 * SECOND)
    assert client._engine.payload_held == 0
    assert client.counters == {"abandoned": 1}
    assert client.next_wakeup() is None
    client.receive(lease)
    assert client.poll() == [Dropped("abandoned", stage.server.peer, "push")]


# What goes out


def test_a_slow_peer_stops_nothing_but_its_own(stream):
    stage = Stage(stream, clients=2, options=Options(max_unsent_bytes=16 * SIZE))
    slow, quick = stage.peers
    stage.server._engine.mains[stage.main].limit = 5
    for _ in range(5):
        stage.invoke(x=np.ones(10_000))
        for packet in [p for p in stage.wire.flying if p.ship.to == quick]:
            stage.server.sent(packet.ship)
    went = [packet.ship.to for packet in stage.wire.flying]
    assert (went.count(slow), went.count(quick)) == (1, 5)
    assert {r.peer: r.waiting for r in stage.server.peers()} == {slow: 4, quick: 0}


def test_what_waits_goes_when_the_host_has_sent_the_rest(stream):
    stage = Stage(stream, clients=1, options=Options(max_unsent_bytes=SIZE))
    frames = [stage.invoke(x=np.ones(10_000)) for _ in range(3)]
    assert len(stage.wire.flying) == 1
    stage.wire.run()
    assert all(stage.end_of(frame).how == "done" for frame in frames)
    assert stage.clients[0].component("model").methods == ["forward"] * 3
    assert stage.server._engine.post.outbound.unsent_bytes == 0


def test_what_waits_too_long_ends_with_its_frame(stream):
    stage = Stage(stream, clients=1, options=Options(max_unsent_bytes=SIZE))
    stage.invoke(x=np.ones(10_000))
    frame = stage.invoke(x=np.ones(10_000))
    stage.wire.advance(60 * SECOND)
    assert stage.end_of(frame).how == "expired"
    assert stage.server.counters == {"unsent": 1, "sample_short": 2}
    assert stage.server.live_frames == 0


def test_a_line_has_an_end(stream):
    stage = Stage(stream, clients=1, options=Options(max_unsent_bytes=SIZE, max_queued=1))
    frame = stage.server.invoke(stage.main, {"x": np.ones(10_000)})
    stage.wire.poll()
    for _ in range(2):
        record = stage.server._engine.peers.of(stage.peers[0])
        stage.server._engine.mains[stage.main].limit = 5
        stage.invoke(x=np.ones(10_000))
    assert len(record.waiting) == 1
    assert stage.server.counters == {"unsent_full": 1, "sample_short": 3}
    assert stage.end_of(frame).how == "done"


def test_sent_may_be_said_twice(stream):
    stage = Stage(stream, clients=1, options=Options(max_unsent_bytes=SIZE))
    stage.invoke(x=np.ones(10_000))
    [packet] = stage.wire.flying
    assert not stage.server.sent(packet.ship)
    assert not stage.server.sent(packet.ship)
    assert stage.server._engine.post.outbound.unsent_bytes == 0


# Peers that do badly


def rounds(stage: Stage, count: int, *, answer: bool) -> None:
    for _ in range(count):
        stage.invoke()
        stage.wire.advance(SECOND)
        while stage.wire.flying:
            silent = not answer and stage.wire.flying[0].ship.to == stage.peers[0]
            if silent:
                stage.wire.lose()
            else:
                stage.wire.deliver()
        stage.wire.advance(20 * SECOND)


def test_a_peer_that_is_silent_too_often_is_left_alone_and_asked_again(ask):
    stage = Stage(ask, clients=3)
    rounds(stage, 3, answer=False)
    table = {row.peer: row for row in stage.server.peers()}
    silent, good = table[stage.peers[0]], table[stage.peers[1]]
    assert (silent.failures, good.failures) == (3, 0)
    assert silent.health < 0.2 < good.health == 1.0
    assert silent.quiet_ns > 0
    assert silent.heard_ns is None

    stage.invoke()
    assert len(stage.wire.flying) == 2, "the others are asked"
    stage.wire.run()
    stage.wire.advance(silent.quiet_ns)
    assert [packet.ship.to for packet in stage.wire.flying] == [stage.peers[0]]
    stage.wire.run()
    assert stage.wire.outputs("count")[-1] == 3
    recovered = {row.peer: row for row in stage.server.peers()}[stage.peers[0]]
    assert (recovered.failures, recovered.quiet_ns, recovered.health) == (0, 0, 1.0)


def test_a_peer_that_is_always_in_time_is_suspected_sooner(ask):
    stage = Stage(ask, clients=3)
    rounds(stage, 5, answer=True)
    row = {r.peer: r for r in stage.server.peers()}[stage.peers[0]]
    assert row.answer_ns == SECOND
    assert row.phi == 0.0, "it owes nothing, however long nobody asks"
    rounds(stage, 1, answer=False)
    row = {r.peer: r for r in stage.server.peers()}[stage.peers[0]]
    assert row.failures == 1
    assert row.phi > 8
    assert row.quiet_ns > 0


def test_what_an_operator_is_told_of_a_peer(ask):
    stage = Stage(ask, clients=3, config=BIG)
    rounds(stage, 1, answer=True)
    row = stage.server.peers()[0]
    assert row.bytes_out > SIZE
    assert row.bytes_in > SIZE
    assert row.refused == {}
    stage.server.block_peer(row.peer)
    stage.run()
    assert stage.server.peers()[0].refused == {"blocked": 1}


def test_who_was_not_sent_a_question_owes_nothing(ask):
    stage = Stage(ask, clients=3)
    rounds(stage, 5, answer=True)
    tell(stage, stage.server, stage.clients[0], Later(60 * SECOND), 0)
    stage.invoke()
    stage.wire.run()
    stage.wire.advance(20 * SECOND)
    row = {r.peer: r for r in stage.server.peers()}[stage.peers[0]]
    assert (row.failures, row.phi) == (0, 0.0)
    assert stage.wire.outputs("count")[-1] == 2


def test_nobody_may_ask_for_more_than_a_minute(ask):
    stage = Stage(ask, clients=3)
    stage.invoke()
    tell(stage, stage.server, stage.clients[0], Later(2**63))
    row = {r.peer: r for r in stage.server.peers()}[stage.peers[0]]
    assert row.quiet_ns == 60 * SECOND


def test_who_asks_for_time_and_then_answers_still_gets_it(ask):
    stage = Stage(ask, clients=3)
    stage.invoke()
    tell(stage, stage.server, stage.clients[0], Later(5 * SECOND), 0)
    stage.wire.run()
    row = {r.peer: r for r in stage.server.peers()}[stage.peers[0]]
    assert row.quiet_ns == 5 * SECOND
    stage.wire.advance(5 * SECOND)
    stage.run()
    assert stage.wire.outputs("count") == [3, 3]


def test_a_recorded_node_does_all_of_it_again(stream):
    clients = [
        install(PeerId.from_seed(b"stage", n), [], stream, ["Stream.client"]) for n in (1, 2)
    ]
    journal: list[bytes] = []
    config = {"peers": {"peers": [client.peer for client in clients]}}
    server = install(
        PeerId.from_seed(b"stage", 0), [], stream, ["Stream"], config, journal=journal.append,
        options=Options(max_unsent_bytes=SIZE),
    )  # fmt: skip
    wire = Wire(server, *clients)
    server.add_peer(clients[0].peer, [Address.parse("/ip4/10.0.0.1/tcp/1"), "/ip4/10.0.0.2/tcp/1"])
    for _ in range(2):
        server.invoke("Stream", {"x": np.ones(10_000)})
    wire.poll()
    server.send_failed(wire.lose().ship, address=Address.parse("/ip4/10.0.0.1/tcp/1"))
    wire.run()
    wire.advance(3 * SECOND)
    server.block_peer(clients[1].peer)
    server.unblock(clients[1].peer)
    wire.poll()

    again = replay(journal).node

    assert again.peers() == server.peers()
    assert again.addresses_of(clients[0].peer) == server.addresses_of(clients[0].peer)
    assert again.counters == server.counters


def test_lists_of_peers(ask):
    stage = Stage(ask, clients=3)
    first = stage.peers[0]
    stage.server.block_peer(first)
    stage.run()
    stage.server.unblock(first)
    stage.run()
    assert stage.wire.outputs("count") == [2, 3]


def test_only_peers_on_the_list_are_talked_to(ask):
    stage = Stage(ask, clients=3)
    allowed = frozenset(stage.peers[:2])
    stage.server._engine.options = Options(allowed_peers=allowed)
    stage.run()
    assert stage.wire.outputs("count") == [2]
    stage.clients[0]._engine.options = Options(allowed_peers=frozenset())
    stage.run()
    assert stage.clients[0].counters["blocked"] == 1


# Incarnations and forgetting


def test_an_older_incarnation_is_told_that_it_is(ask):
    stage = Stage(ask, clients=3)
    stage.run()
    server, client = stage.server, stage.clients[0]
    tell(stage, server, client, Leaving(), incarnation=5)
    assert tell(stage, server, client, Leaving(), 7).reason == "stale"
    tell(stage, server, client, Leaving(), 8)
    told = [control_of(s) for s in server.poll() if hasattr(s, "envelope")]
    assert told == [Stale(5)], "once a second"


def test_who_hears_that_it_is_stale_waits_for_nobody(ask):
    stage = Stage(ask, clients=3)
    stage.invoke()
    tell(stage, stage.server, stage.clients[0], Stale(9))
    assert stage.server.counters["superseded"] >= 1
    assert open_answers(stage) == 2


def test_nobody_waits_for_a_peer_that_leaves(ask):
    stage = Stage(ask, clients=3)
    stage.invoke()
    tell(stage, stage.server, stage.clients[0], Leaving())
    assert open_answers(stage) == 2


def test_idle_peers_are_forgotten(ask):
    stage = Stage(ask, clients=3)
    stage.run()
    assert len(stage.server.peers()) == 3
    longest = max(edge.deadline_ns for edge in ask.edges.values())
    stage.wire.advance(2 * longest - 1)
    assert len(stage.server.peers()) == 3
    stage.wire.advance(2 * longest)
    assert stage.server.peers() == ()
    stage.run()
    assert stage.wire.outputs("count") == [3, 3]


def test_another_program_is_told_of_once_an_hour(ask):
    stage = Stage(ask, clients=3)
    source = stage.clients[0].peer
    for number in range(5):
        other = build_envelope(bytes(16), 0, 1, number + 1, control=Leaving()).to_bytes()
        stage.server.receive_bytes(other, source)
    assert stage.server.counters["version_skew"] == 5
    assert stage.server.poll() == [Dropped("version_skew", source, "")]
    stage.server.advance(3600 * SECOND)
    stage.server.receive_bytes(other, source)
    assert [s.reason for s in stage.server.poll()] == ["version_skew"]


def test_state_of_peers_comes_back(ask):
    stage = Stage(ask, clients=3)
    rounds(stage, 3, answer=False)
    engine = stage.server._engine
    before, state = stage.server.peers(), engine.peers.state()
    engine.peers.load(state)
    assert stage.server.peers() == before
