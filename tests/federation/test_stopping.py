"""A federation of real components that stops at any step learns what it learns otherwise."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bytesandbrains as bb
from bb_runtime import Ship
from bb_testing.programs import Packet, Wire


class Training(bb.Module):
    """Three rounds of averaging, two at a time, over a cohort that is drawn."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    aggregator = bb.slots.Aggregator()

    def body(self, g: bb.Graph) -> None:
        with g.rounds(3, width=2):
            got = g.net_out("weights", self.peers.sample(g, 2), self.model.params(g), retries=1)
            self.model.load_params(g, got)
            metrics = self.model.fit(g, self.data.batches(g))
            reply = g.net_out("update", g.sender(got), self.model.params(g), metrics)
            done = g.gather(self.aggregator.contribute(g, *reply), deadline="30s")
            averaged, summary = self.aggregator.aggregate(g, after=done)
            self.model.load_params(g, averaged)
            g.output("summary", summary)


CONFIG = {
    "model": {"momentum": 0.9},
    "client.data": lambda index: {"partition": "iid", "clients": 3, "client": index},
}


@pytest.fixture(scope="module")
def training() -> Any:
    compiler = bb.Compiler().bind_model("model", "mlp").bind_data_source("data", "digits")
    compiler.bind_aggregator("aggregator", "fedavg").bind_peer_selector("peers", "static")
    artifact = bb.load_artifact(compiler.compile(Training().build()))
    return lambda: bb.LocalFederation(artifact, nodes={"client": 3}, config=CONFIG, seed=4)


def learn(make: Any, order: list[int], stops: set[int]) -> tuple[Wire, list[bytes]]:
    """Train, and go on with new Nodes before the deliveries that have these numbers."""
    wire = Wire(*make().bus.nodes)
    server = next(iter(wire.nodes.values()))
    server.invoke("Training")
    wire.poll()
    number = 0
    while wire.flying:
        if number in stops:
            wire = restarted(make, wire)
        wire.deliver((order[number] if number < len(order) else 0) % len(wire.flying))
        number += 1
    return wire, [node.snapshot() for node in wire.nodes.values()]


def restarted(make: Any, old: Wire) -> Wire:
    new = Wire(*make().bus.nodes)
    for peer, node in new.nodes.items():
        node.restore(old.nodes[peer].snapshot())
        old.nodes[peer].close()
    new.steps = old.steps
    new.flying = [Packet(source, copied(ship)) for source, ship in old.flying]
    return new


def copied(ship: Ship) -> Ship:
    built = ship.envelope
    segments = tuple(memoryview(bytes(one)) for one in built.segments)
    return ship._replace(envelope=built._replace(segments=segments))


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    order=st.lists(st.integers(0, 5), max_size=20),
    stops=st.sets(st.integers(0, 11), min_size=1, max_size=4),
)
def test_training_goes_on_as_if_it_had_never_stopped(training, order, stops):
    stopped, after = learn(training, order, stops)
    never, want = learn(training, order, set())
    assert stopped.outputs("summary") == never.outputs("summary")
    assert len(never.outputs("summary")) == 3
    assert after == want, "parameters, velocities, draws, counters: all that a Node holds"
