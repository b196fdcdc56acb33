"""On an edge with `ordered=True` envelopes are opened in the order in which a peer sent them."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import bb_dsl as bb
from bb_ir.dump import dump
from bb_ir.dump import load as load_dump
from bb_ir.ids import PeerId
from bb_ir.types import tensor
from bb_ir.values import encode_value
from bb_ir.wire import (
    DEFAULT_LIMITS,
    PRELUDE_SIZE,
    build_envelope,
    read_header,
    read_prelude,
)
from bb_runtime import Dropped, Options
from bb_runtime._order import MOST
from bb_runtime._portable import KINDS
from bb_runtime.errors import SnapshotError
from bb_runtime.leftovers import leftovers
from bb_runtime.replay import replay
from bb_testing.programs import Stage, Wire

SECOND = 10**9
TYPE = tensor("float64", (None,))


class Streams(bb.Module):
    """Sends clients one array after the other, which they sum up in that order."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def __init__(self, *, retries: int = 0) -> None:
        super().__init__()
        self.retries = retries

    def body(self, g: bb.Graph) -> None:
        x = g.input("x", TYPE)
        to = self.peers.sample(g, 2)
        got = g.net_out("push", to, x, ordered=True, deadline="20s", retries=self.retries)
        self.model.forward(g, got)
        g.output("seen", got)


class Asks(bb.Module):
    """Asks two clients again and again, until one has answered."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")

    def body(self, g: bb.Graph) -> None:
        got = g.net_out("ask", self.peers.sample(g, 2), ordered=True, retries=2)
        g.output("count", g.gather(g.net_out("tell", g.sender(got)), quorum=1).count)


class Parts(bb.Module):
    """Clients answer in parts, which are opened in order."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        got = g.net_out("ask", self.peers.sample(g, 2))
        with g.loop(3) as turn:
            part = g.net_out("part", g.sender(got), turn, replies=3, ordered=True)
        g.output("turn", part)
        g.output("count", g.gather(part, deadline="30s").count)


@pytest.fixture(scope="module")
def streams(compiled) -> Any:
    return compiled(Streams())


@pytest.fixture(scope="module")
def sure(compiled) -> Any:
    return compiled(Streams(retries=3))


@pytest.fixture(scope="module")
def parts(compiled) -> Any:
    return compiled(Parts())


@pytest.fixture(scope="module")
def both(streams, sure) -> Any:
    class Both:
        """Is short where a test that fails shows it."""

    made: Any = Both()
    made.streams, made.sure = streams, sure
    return made


def push(stage: Stage, *numbers: float) -> None:
    for number in numbers:
        stage.invoke(x=np.full(1_000, float(number)))


def seen(stage: Stage, client: int = 0) -> list[float]:
    peer = stage.clients[client].peer
    steps = [s for who, s in stage.wire.steps if who == peer and getattr(s, "name", "") == "seen"]
    return [float(step.value[0]) for step in steps]


def to(stage: Stage, client: int = 0) -> list[int]:
    """Return places of what is on its way to a client."""
    peer = stage.clients[client].peer
    return [at for at, packet in enumerate(stage.wire.flying) if packet.ship.to == peer]


def head_of(ship: Any) -> Any:
    data = memoryview(ship.envelope.head)
    return read_header(
        read_prelude(data[:PRELUDE_SIZE], DEFAULT_LIMITS), data[PRELUDE_SIZE:], DEFAULT_LIMITS
    )


def quiet(stage: Stage) -> bool:
    """Whether nothing is charged to anybody."""
    return all(
        not (record.frames or record.held) and not node._engine.payload_held
        for node in stage.wire.nodes.values()
        for record in node._engine.peers.records.values()
    )


def test_what_comes_early_waits_for_what_was_sent_before(streams):
    stage = Stage(streams, clients=2)
    push(stage, 1, 2, 3)
    for place in (4, 2):  # the third and the second of the first client
        stage.wire.deliver(place)
    assert seen(stage) == []
    stage.wire.deliver(0)
    assert seen(stage) == [1, 2, 3]
    assert stage.clients[0].counters == {}
    stage.wire.run()
    assert seen(stage, 1) == [1, 2, 3], "each receiver has an order of its own"
    assert quiet(stage)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@example(events=[("l", 0), ("a", 20), ("a", 20), ("t", 0)], again=False)
@given(
    events=st.lists(
        st.tuples(st.sampled_from("dlkrat"), st.integers(0, 20)), min_size=4, max_size=40
    ),
    again=st.booleans(),
)
def test_nothing_is_ever_opened_out_of_order(both, events, again):
    stage = Stage(both.sure if again else both.streams, clients=2)
    push(stage, 1, 2, 3)
    number = 3
    for kind, pick in events:
        if kind == "t":
            number += 1
            push(stage, number)
        elif kind == "a":
            stage.wire.advance(pick * SECOND // 2)
        elif kind == "r":
            stage.restart()
            assert stage.server.peer in stage.wire.nodes
        elif stage.wire.flying:
            place = pick % len(stage.wire.flying)
            if kind == "l":
                stage.wire.lose(place)
            else:
                stage.wire.deliver(place, keep=kind == "k")
    for _ in range(10):
        stage.wire.run()
        stage.wire.advance(10 * SECOND)
    for client in range(2):
        found = seen(stage, client)
        assert found == sorted(set(found))
    assert quiet(stage)
    assert all(node.live_frames == 0 for node in stage.wire.nodes.values())


def test_gap_is_given_up_after_half_of_the_time(streams):
    stage = Stage(streams, clients=2)
    push(stage, 1, 2, 3)
    stage.wire.lose(to(stage)[0])
    stage.wire.run()
    client = stage.clients[0]
    assert seen(stage) == []
    stage.wire.advance(10 * SECOND - 1)
    assert seen(stage) == []
    stage.wire.advance(1)
    assert seen(stage) == [2, 3]
    [gap] = [s for _, s in stage.wire.steps if isinstance(s, Dropped)]
    assert gap == Dropped("gap", stage.server.peer, "push")
    assert client.counters == {"gap": 1}


def test_what_comes_after_its_gap_was_given_up_is_refused(streams):
    stage = Stage(streams, clients=2)
    push(stage, 1, 2)
    lost = stage.wire.lose(to(stage)[0])
    stage.wire.run()
    stage.wire.advance(10 * SECOND)
    stage.wire.flying.append(lost)
    stage.wire.run()
    assert seen(stage) == [2]
    assert stage.clients[0].counters == {"gap": 1, "out_of_order": 1}


def test_with_retries_nothing_is_missing(sure):
    stage = Stage(sure, clients=2)
    push(stage, 1, 2, 3)
    stage.wire.lose(to(stage)[0])
    stage.wire.run()
    assert seen(stage) == []
    for _ in range(8):
        stage.wire.advance(SECOND // 2)
        stage.wire.run()
    assert seen(stage) == [1, 2, 3]
    assert "gap" not in stage.clients[0].counters


def test_nobody_waits_for_what_the_host_could_not_send(streams):
    stage = Stage(streams, clients=2)
    push(stage, 1, 2)
    lost = stage.wire.lose(to(stage)[1])
    stage.server.send_failed(lost.ship)
    push(stage, 3)
    stage.wire.run()
    assert seen(stage) == [1, 3]


def test_what_is_sent_again_is_waited_for_though_the_host_could_not_send_it(sure):
    stage = Stage(sure, clients=2)
    push(stage, 1, 2)
    failed = stage.wire.lose(to(stage)[1])
    stage.server.send_failed(failed.ship)
    push(stage, 3)
    for _ in range(8):
        stage.wire.run()
        stage.wire.advance(SECOND // 2)
    assert seen(stage) == [1, 2, 3]
    assert stage.clients[0].counters == {}


def test_nobody_waits_for_a_question_that_is_not_asked_again(compiled):
    stage = Stage(compiled(Asks()), clients=2)
    stage.invoke()
    stage.wire.poll()
    stage.wire.lose(to(stage)[0])
    stage.wire.run()
    assert stage.wire.outputs("count") == [1], "the other answer was enough"
    stage.invoke()
    stage.wire.poll()
    stage.wire.deliver(to(stage)[0])
    assert "envelopes held back" not in leftovers(stage.clients[0])
    assert len(stage.wire.flying) == 3, "an answer, word that the question came, and the other one"


def test_nobody_waits_for_what_came_too_late_to_be_sent_again(streams):
    stage = Stage(streams, clients=2)
    push(stage, 1)
    stage.wire.flying.clear()
    stage.wire.advance(20 * SECOND)
    push(stage, 2)
    assert head_of(stage.wire.flying[0].ship).after == 0
    stage.wire.run()
    assert seen(stage) == [2]


def test_nobody_waits_for_what_was_refused(streams):
    stage = Stage(streams, clients=2)
    client = stage.clients[0]
    push(stage, 0)
    stage.wire.run()
    push(stage, 1, 2, 3)
    client._engine.options = Options(max_inbound_bytes=1)
    stage.wire.deliver(to(stage)[0])
    assert client.counters == {"busy": 1}
    client._engine.options = Options()
    stage.wire.run()
    assert seen(stage) == [0, 2, 3]
    assert client.counters == {"busy": 1}


def test_what_is_held_back_is_bounded(streams):
    stage = Stage(streams, clients=2)
    push(stage, *range(MOST + 3))
    stage.wire.lose(to(stage)[0])
    for _ in range(MOST):
        stage.wire.deliver(to(stage)[0])
    client = stage.clients[0]
    [record] = client._engine.peers.records.values()
    assert record.frames == MOST
    assert record.held == client._engine.payload_held > 0
    assert seen(stage) == []
    stage.wire.deliver(to(stage)[0])
    assert seen(stage) == list(range(1, MOST + 2))
    assert client.counters == {"gap": 1}
    stage.wire.run()
    assert quiet(stage)


def test_no_more_is_held_back_than_half_of_a_share(streams):
    stage = Stage(streams, clients=2)
    stage.clients[0]._engine.options = Options(max_frames=80)  # a share of ten
    push(stage, *range(10))
    stage.wire.lose(to(stage)[0])
    for _ in range(5):
        stage.wire.deliver(to(stage)[0])
    assert seen(stage) == []
    stage.wire.deliver(to(stage)[0])
    assert seen(stage) == [1, 2, 3, 4, 5, 6], "there is room left for what is missing"


def test_share_of_one_frame_leaves_no_room_to_wait_in(streams):
    stage = Stage(streams, clients=2)
    stage.clients[0]._engine.options = Options(max_frames=8)
    push(stage, 1, 2)
    stage.wire.lose(to(stage)[0])
    stage.wire.deliver(to(stage)[0])
    assert seen(stage) == [2], "what is missing could not come in"


def test_of_all_peers_no_more_is_held_back_than_half_of_the_frames(streams):
    stage = Stage(streams, clients=2)
    client, sources = stage.clients[0], [PeerId.from_seed(b"many", n) for n in range(5)]
    client._engine.options = Options(max_frames=8, peer_share=1.0)
    push(stage, 1, 2)
    packet = stage.wire.flying[to(stage)[1]]
    for source in sources:
        client.authorize(source, "server")
        client.receive_bytes(packet.ship.envelope.to_bytes(), source)
    stage.wire.poll()
    records = client._engine.peers.records
    assert [records[source].frames for source in sources] == [1, 1, 1, 1, 0]
    assert client.counters == {"gap": 1}
    assert leftovers(client)["envelopes held back"] == 4
    stage.wire.advance(10 * SECOND)
    assert seen(stage) == [2] * 5
    assert leftovers(client) == {}


def test_peer_cannot_have_its_own_wait_longer_than_the_edge_allows(streams):
    stage = Stage(streams, clients=2)
    push(stage, 1, 2)
    stage.wire.lose(to(stage)[0])
    packet = stage.wire.lose(to(stage)[0])
    head = head_of(packet.ship)
    client = stage.clients[0]
    envelope = build_envelope(
        head.program, head.edge, head.incarnation, head.message_id,
        remaining_ns=2**63, after=head.after,
        fills=[encode_value(np.full(1_000, 2.0), TYPE)],
    )  # fmt: skip
    client.receive_bytes(envelope.to_bytes(), stage.server.peer)
    stage.wire.poll()
    assert seen(stage) == []
    stage.wire.advance(10 * SECOND)
    assert seen(stage) == [2]


def test_peer_that_starts_anew_sends_nothing_old(streams):
    stage = Stage(streams, clients=2)
    push(stage, 1, 2, 3)
    stage.wire.lose(to(stage)[0])
    stage.wire.deliver(to(stage)[0])
    old = stage.wire.lose(to(stage)[0])
    stage.server = stage.makers[0](incarnation=7)
    stage.server.authorize(stage.clients[0].peer, "client")
    stage.wire.nodes[stage.server.peer] = stage.server
    push(stage, 4)
    stage.wire.deliver(to(stage)[-1])
    assert seen(stage) == [2, 4]
    stage.wire.flying.insert(0, old)
    stage.wire.deliver()
    assert seen(stage) == [2, 4]
    assert stage.clients[0].counters["stale"] == 1


def test_what_a_blocked_peer_sent_is_dropped(streams):
    stage = Stage(streams, clients=2)
    push(stage, 1, 2)
    stage.wire.deliver(to(stage)[1])
    stage.clients[0].block_peer(stage.server.peer)
    stage.wire.run()
    assert seen(stage) == []
    assert stage.clients[0].counters == {"blocked": 2}


def test_node_that_closes_holds_nothing_back(streams):
    stage = Stage(streams, clients=2)
    push(stage, 1, 2)
    stage.wire.deliver(to(stage)[1])
    client = stage.clients[0]
    client.close("5s")
    assert client.counters["closing"] == 1
    assert client.live_frames == 0
    assert not client._engine.payload_held


def test_parts_are_opened_in_the_order_of_their_sending(parts):
    stage = Stage(parts, clients=2)
    stage.invoke()
    for _ in range(2):
        stage.wire.deliver()
    for place in (5, 4, 3, 2, 1, 0):
        stage.wire.deliver(place)
    assert stage.wire.outputs("turn") == [1, 2, 3, 1, 2, 3]
    assert stage.wire.outputs("count") == [2]


def test_part_whose_frame_has_ended_meanwhile_is_late(parts):
    stage = Stage(parts, clients=2)
    stage.invoke()
    for _ in range(2):
        stage.wire.deliver()
    stage.wire.deliver(1)
    stage.wire.advance(31 * SECOND)  # at 15 its gap is given up, at 30 the gather falls short
    assert stage.wire.outputs("turn") == [2]
    assert stage.server.counters["gap"] == 1
    stage.wire.run()
    assert quiet(stage)


@pytest.mark.parametrize("stop", range(6))
def test_snapshot_holds_what_waits(sure, stop):
    straight, stage = (Stage(sure, clients=2) for _ in range(2))
    for one in (straight, stage):
        push(one, 1, 2, 3)
        one.wire.lose(0)
        for number in range(stop):
            one.wire.deliver((2 * number + 1) % len(one.wire.flying))
    before = [leftovers(node) for node in stage.wire.nodes.values()]
    stage.restart()
    assert [leftovers(node) for node in stage.wire.nodes.values()] == before
    for one in (straight, stage):
        for _ in range(8):
            one.wire.run()
            one.wire.advance(SECOND)
    assert seen(stage) == seen(straight) == [1, 2, 3]
    nodes = zip(stage.wire.nodes.values(), straight.wire.nodes.values(), strict=True)
    assert all(one.snapshot() == other.snapshot() for one, other in nodes)


def test_after_a_crash_nothing_is_held_back(streams):
    stage = Stage(streams, clients=2)
    push(stage, 1, 2)
    stage.wire.deliver(to(stage)[1])
    data = stage.clients[0].snapshot()
    again = stage.makers[1](incarnation=7)
    again.restore(data, clean=False)
    assert not again._engine.payload_held
    assert again.live_frames == 0
    assert again.next_wakeup() is None


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.integers(0, 2**20), junk=st.none() | st.integers() | st.text() | st.just([[]]))
def test_snapshot_that_says_nonsense_of_what_waits_is_taken_or_refused(both, number, junk):
    stage = Stage(both.streams, clients=2)
    push(stage, 1, 2)
    stage.wire.deliver(to(stage)[1])
    table = load_dump(stage.clients[0].snapshot(), kinds=KINDS)
    places = [
        (row, at)
        for row in (table["engine"]["order"][0], *table["engine"]["order"][0][2][0][2])
        for at in (row if isinstance(row, dict) else range(len(row)))
    ]
    row, at = places[number % len(places)]
    changed = {**row, at: junk} if isinstance(row, dict) else None
    rows = [list(one) for one in table["engine"]["order"]]
    if changed is None:
        rows[0][at] = junk
    else:
        name, passed, _ = rows[0][2][0]
        rows[0][2] = [(name, passed, [changed])]
    node = stage.makers[1]()
    fresh = node.snapshot()
    engine = {**table["engine"], "order": rows}
    try:
        node.restore(dump({**table, "engine": engine}, kinds=KINDS))
    except SnapshotError:
        assert node.snapshot() == fresh


def test_journal_replays(streams):
    log: list[bytes] = []
    stage = Stage(streams, clients=2)
    client = stage.clients[0] = stage.makers[1](journal=log.append)
    stage.wire = Wire(stage.server, *stage.clients)
    push(stage, 1, 2, 3)
    stage.wire.lose(to(stage)[0])
    stage.wire.run()
    stage.wire.advance(10 * SECOND)
    assert seen(stage) == [2, 3]
    assert replay(log).node.snapshot() == client.snapshot()


def test_by_reference_an_envelope_says_what_its_bytes_say(streams):
    stage = Stage(streams, clients=2)
    stage.server = stage.makers[0](by_reference=True)
    stage.wire = Wire(stage.server, *stage.clients)
    push(stage, 1, 2)
    for ship in (packet.ship for packet in stage.wire.flying):
        assert ship.envelope.read().after == head_of(ship).after
        assert len(ship.envelope.head) == ship.envelope.head_length
    first, second = (stage.wire.flying[at].ship for at in to(stage))
    client = stage.clients[0]
    for ship in (second, first):
        assert client.take(ship.envelope, stage.server.peer) is None
        stage.wire.poll()
    assert seen(stage) == [1, 2]


def test_other_edges_say_nothing_about_order(compiled):
    class Plain(Streams):
        def body(self, g: bb.Graph) -> None:
            x = g.input("x", TYPE)
            got = g.net_out("push", self.peers.sample(g, 2), x)
            self.model.forward(g, got)
            g.output("seen", got)

    stage = Stage(compiled(Plain()), clients=2)
    push(stage, 1, 2)
    assert {head_of(packet.ship).after for packet in stage.wire.flying} == {0}
    stage.wire.deliver(2)
    assert seen(stage) == [2]
    assert all(r.order is None for r in stage.clients[0]._engine.peers.records.values())
