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


class Asking(bb.Module):
    """Nodes that wait for messages in the middle of their batches, and with batches in hand."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def body(self, g: bb.Graph) -> None:
        with g.each(self.data.batches(g, epochs=2)) as (images, _):
            got = g.net_out("batch", self.peers.current_view(g), images)
            back = g.net_out("predicted", g.sender(got), self.model.forward(g, got))
            g.gather(back, deadline="30s")
        got = g.net_out("weights", self.peers.current_view(g), self.model.params(g))
        loaded = self.model.load_params(g, got)
        held = self.data.batches(g, after=loaded)
        ready = g.net_out("ready", g.sender(got), self.model.evaluate(g, held))
        go = g.net_out("go", g.sender(ready), g.me())
        metrics = self.model.fit(g, held, after=go)
        g.output("loss", metrics["loss"])


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


@pytest.fixture(scope="module")
def asking() -> Any:
    compiler = bb.Compiler().bind_model("model", "mlp").bind_data_source("data", "digits")
    artifact = bb.load_artifact(
        compiler.bind_peer_selector("peers", "static").compile(Asking().build())
    )
    config = {"client.data": CONFIG["client.data"], "server.data": {"batch_size": 900}}
    return lambda: bb.LocalFederation(artifact, nodes={"client": 3}, config=config, seed=4)


def learn(
    make: Any, order: list[int], stops: set[int], program: str = "Training"
) -> tuple[Wire, list[bytes]]:
    """Train, and go on with new Nodes before the deliveries that have these numbers."""
    wire = Wire(*make().bus.nodes)
    server = next(iter(wire.nodes.values()))
    server.invoke(program)
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


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    order=st.lists(st.integers(0, 5), max_size=30),
    stops=st.sets(st.integers(0, 40), min_size=1, max_size=4),
)
def test_batches_that_a_frame_holds_go_on_where_they_were(asking, order, stops):
    stopped, after = learn(asking, order, stops, "Asking")
    never, want = learn(asking, order, set(), "Asking")
    assert stopped.outputs("loss") == never.outputs("loss")
    assert len(never.outputs("loss")) == 3
    assert after == want


def test_a_whole_federation_goes_on_from_one_file(training, tmp_path):
    never = training()
    want = list(never.events())
    stopped = training()
    events = stopped.events()
    before = [next(events) for _ in range(len(want) // 2)]
    bb.save_federation(tmp_path / "all.snapshot", stopped)
    gone_on = training()
    bb.load_federation(tmp_path / "all.snapshot", gone_on)
    rest = list(gone_on.bus.events())
    assert [one.peer for one in (*before, *rest)] == [one.peer for one in want]
    assert gone_on.frame == stopped.frame == never.frame
    assert gone_on.params() == never.params()
    assert gone_on.run().history == never.run().history
