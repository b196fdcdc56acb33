"""A few Nodes in one process: every envelope is real, and memory stays flat."""

import gc
from typing import Any

import numpy as np
import pytest

import bb_dsl as bb
from bb_ir.ids import PeerId
from bb_ir.params import ParameterSet
from bb_runtime import DeliveryError, Dropped, Emitted, FrameEnded, LocalBus, install
from bb_runtime.errors import EndlessExchange, EndlessLoop
from bb_testing.programs import SumAggregator

IDS = [PeerId.from_seed(b"bus", n) for n in range(60)]


class Round(bb.Module):
    """Folds what clients send."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    aggregator = bb.slots.Aggregator()

    def __init__(self, n: int = 3, **options: Any) -> None:
        super().__init__()
        self.n = n
        self.options = options

    def body(self, g: bb.Graph) -> None:
        got = g.net_out("weights", self.peers.sample(g, self.n), self.model.params(g))
        self.model.load_params(g, got)
        metrics = self.model.fit(g, self.data.batches(g))
        reply = g.net_out("update", g.sender(got), self.model.params(g), metrics)
        done = g.gather(self.aggregator.contribute(g, *reply), **self.options)
        averaged, summary = self.aggregator.aggregate(g, after=done)
        self.model.load_params(g, averaged)
        g.output("summary", summary)


class Streaming(SumAggregator):
    """Keeps a sum and no update, and writes down how many parameter sets are alive."""

    def __init__(self, config, env) -> None:
        super().__init__(config, env)
        self.sum: Any = 0.0
        self.count = 0
        self.peak = 0

    def contribute(self, ctx, params, metrics) -> None:
        self.sum = self.sum + params["w"]
        self.count += 1
        self.peak = max(self.peak, alive())

    def aggregate(self, ctx):
        mean, count = self.sum / self.count, self.count
        self.sum, self.count = 0.0, 0
        return ParameterSet.from_tensors({"w": mean}), {"count": count, "examples": count}


def alive() -> int:
    return sum(isinstance(one, ParameterSet) for one in gc.get_objects())


def nodes_of(artifact: Any, clients: int, **config: Any) -> list[Any]:
    names = [t.short for t in artifact.targets.values()]
    server = install(
        IDS[0], [], artifact, [names[0]], {"peers": {"peers": IDS[1 : clients + 1]}, **config}
    )
    return [
        server,
        *(install(IDS[n + 1], [], artifact, [names[1]], config) for n in range(clients)),
    ]


def test_a_round_runs_to_its_end(compiled):
    server, *clients = nodes_of(compiled(Round()), 3)
    bus = LocalBus(server, *clients)
    server.invoke("Round")
    steps = [event.step for event in bus.run()]
    assert [s.value for s in steps if isinstance(s, Emitted)] == [{"count": 3, "examples": 3}]
    assert {s.how for s in steps if isinstance(s, FrameEnded)} == {"done"}
    assert bus.nodes == (server, *clients)


def test_events_come_as_they_happen(compiled):
    server, *clients = nodes_of(compiled(Round()), 3)
    bus = LocalBus(server, *clients)
    server.invoke("Round")
    regions = [event.step.region for event in bus.events() if isinstance(event.step, FrameEnded)]
    assert regions == ["weights", "update"] * 3 + ["main"]


@pytest.mark.parametrize("clients", [4, 32])
def test_the_number_of_live_parameter_sets_does_not_grow_with_the_cohort(compiled, clients):
    artifact = compiled(Round(clients), aggregator=Streaming)
    server, *others = nodes_of(artifact, clients, model={"size": 2_000})
    bus = LocalBus(server, *others)
    for _ in range(2):
        server.invoke("Round")
        bus.run()
    gc.collect()
    before = alive()
    aggregator = server.component("aggregator")
    aggregator.peak = 0
    server.invoke("Round")
    bus.run()
    assert aggregator.peak - before <= 4


def test_time_moves_to_the_next_deadline_when_everybody_waits(compiled):
    server, *clients = nodes_of(compiled(Round(quorum=2, wait="all", deadline="30s")), 3)
    clients[0].block_peer(server.peer)
    bus = LocalBus(server, clients[1], clients[2])
    bus.add(clients[0])
    clients[0].block_peer(server.peer)
    server.invoke("Round")
    steps = [event.step for event in bus.run()]
    assert server.now_ns == 30 * 10**9
    assert all(node.now_ns == server.now_ns for node in bus.nodes)
    assert [s.value["count"] for s in steps if isinstance(s, Emitted)] == [2]


def test_time_stands_still_when_told_so(compiled):
    server, *clients = nodes_of(compiled(Round(deadline="30s")), 3)
    bus = LocalBus(server, *clients)
    clients[0].block_peer(server.peer)
    server.invoke("Round")
    bus.run(time=False)
    assert server.now_ns == 0
    assert server.live_frames == 1


def test_a_removed_peer_is_undeliverable(compiled):
    server, *clients = nodes_of(compiled(Round(quorum=2)), 3)
    bus = LocalBus(server, *clients)
    bus.remove(clients[0].peer)
    bus.remove(clients[0].peer)
    server.invoke("Round")
    steps = [event.step for event in bus.run()]
    assert [s.reason for s in steps if isinstance(s, Dropped)] == ["undeliverable"]
    assert [s.value["count"] for s in steps if isinstance(s, Emitted)] == [2]


def test_who_joins_later_does_not_trust_who_left(compiled):
    artifact = compiled(Round())
    server, *clients = nodes_of(artifact, 3)
    bus = LocalBus(server)
    bus.remove(server.peer)
    bus.add(clients[0])
    assert clients[0].sources == ("server",)
    assert clients[0]._admission.authorized == {}


def test_nodes_know_only_those_who_may_send_to_them(compiled):
    server, *clients = nodes_of(compiled(Round()), 3)
    LocalBus(clients[0], server, clients[1])
    assert server.sources == ()
    assert server._admission.authorized == {}
    for client in clients[:2]:
        assert client._admission.authorized == {"server": {server.peer}}


def test_a_peer_is_on_the_bus_once(compiled):
    server, *_ = nodes_of(compiled(Round()), 1)
    bus = LocalBus(server)
    with pytest.raises(DeliveryError, match=r"is on the bus already[\s\S]*its own PeerId"):
        bus.add(server)


class Echo(bb.Module):
    """Asks peers of its own class, itself among them."""

    peer_class = "peer"
    peers = bb.slots.PeerSelector()
    model = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        got = g.net_out("ask", self.peers.sample(g, 2), self.model.params(g))
        with g.at(got):
            mine = self.model.params(g)
        told = g.net_out("tell", g.sender(got), mine)
        g.output("values", g.gather(told, values=True).values)


def test_a_node_may_send_to_itself(compiled):
    artifact = compiled(Echo())
    nodes = [
        install(
            IDS[n], [], artifact, ["Echo"],
            {"peers": {"peers": IDS[:2]}, "model": {"value": float(n), "size": 1}},
        )
        for n in range(2)
    ]  # fmt: skip
    bus = LocalBus(*nodes)
    for node in nodes:
        node.invoke("Echo")
    values = [event.step.value for event in bus.run() if isinstance(event.step, Emitted)]
    assert [[p["w"].tolist() for p in both] for both in values] == [[[0.0], [1.0]]] * 2
    assert [node.live_frames for node in nodes] == [0, 0]


def test_what_a_node_published_before_joining_is_not_lost(compiled):
    server, *clients = nodes_of(compiled(Round()), 3)
    server.invoke("Round")
    bus = LocalBus(server, *clients)
    emitted = [e for e in bus.run() if isinstance(e.step, Emitted)]
    assert emitted[0].peer == server.peer
    assert np.isfinite(server.component("model").w).all()


# Nodes that wake each other


class Bounce(bb.Module):
    """Gives a ball on to a peer, and that one to the next."""

    peer_class = "peer"
    neighbour = bb.slots.PeerSelector(of="peer")

    def body(self, g: bb.Graph) -> None:
        with g.on("ball", "int64") as ball:
            theirs = g.net_out("pass", self.neighbour.sample(g, 1), ball)
        g.publish("ball", theirs)


def bouncing(compiled: Any, **given: Any) -> LocalBus:
    """Three peers that give a ball on in a ring, which have just begun."""
    artifact = compiled(Bounce())
    (main,) = (target.short for target in artifact.targets.values())
    ring = IDS[:3]
    nodes = [
        install(peer, [], artifact, [main], {"neighbour": {"peers": [ring[(n + 1) % 3]]}})
        for n, peer in enumerate(ring)
    ]
    bus = LocalBus(*nodes, **given)
    for node in nodes:
        node.invoke(main)
    bus.run()
    nodes[0].publish("ball", 7)
    return bus


def test_nodes_that_wake_each_other_without_end_are_told_of(compiled):
    bus = bouncing(compiled, max_envelopes=300)

    with pytest.raises(EndlessExchange, match="300 envelopes were carried") as caught:
        bus.run()

    assert isinstance(caught.value, EndlessLoop)
    assert all(str(peer) in caught.value.found for peer in IDS[:3])
    assert caught.value.found.count("50 on 'pass' from ") == 2
    [place] = caught.value.where
    assert place.file.endswith("test_bus.py")
    assert "max_envelopes" in caught.value.fix


def test_a_bus_that_told_of_it_may_go_on(compiled):
    bus = bouncing(compiled, max_envelopes=300)
    received = []
    for most in (300, 1200):
        bus.max_envelopes = most
        with pytest.raises(EndlessExchange, match=f"{most:,} envelopes"):
            bus.run()
        metrics = (one for node in bus.nodes for one in node.metrics())
        received.append(sum(
            one.value for one in metrics
            if one.name == "bb_envelopes_total" and one.labels["direction"] == "in"
        ))  # fmt: skip
    assert received == [300, 1500], "none was lost"

    bus.remove(IDS[1])
    assert bus.run() is not None, "without a peer in it the ring is open"


def test_passing_time_is_no_exchange_without_end(compiled):
    class Slow(Bounce):
        def body(self, g: bb.Graph) -> None:
            with g.on("ball", "int64") as ball:
                theirs = g.net_out("pass", self.neighbour.sample(g, 1), g.sleep("1s", ball))
            g.publish("ball", theirs)

    class Bouncing:
        def __call__(self, module: Any) -> Any:
            return compiled(Slow() if isinstance(module, Bounce) else module)

    bus = bouncing(Bouncing(), max_envelopes=20)

    ended = [event.step for event in bus.advance("100s") if isinstance(event.step, FrameEnded)]

    assert len(ended) >= 100


def test_each_run_counts_anew(compiled):
    server, *clients = nodes_of(compiled(Round()), 3)
    bus = LocalBus(server, *clients, max_envelopes=6)
    for _ in range(5):
        server.invoke("Round")
        bus.run()
    bus.max_envelopes = 5
    server.invoke("Round")
    with pytest.raises(EndlessExchange, match=r"5 envelopes .* 'update' from"):
        bus.run()
