"""Hundreds of rounds with losses and failures: no memory and no state is left behind."""

import gc
import tracemalloc

import bb_dsl as bb
from bb_testing.programs import Stage

SECOND = 10**9
CLIENTS = 4


class Round(bb.Module):
    """One round that half of the clients suffice for."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    aggregator = bb.slots.Aggregator()

    def body(self, g: bb.Graph) -> None:
        got = g.net_out("weights", self.peers.sample(g, CLIENTS), self.model.params(g))
        self.model.load_params(g, got)
        metrics = self.model.fit(g, self.data.batches(g))
        reply = g.net_out("update", g.sender(got), self.model.params(g), metrics)
        folded = self.aggregator.contribute(g, *reply)
        done = g.gather(folded, quorum=0.5, wait="all", deadline="5s")
        averaged, _ = self.aggregator.aggregate(g, after=done)
        self.model.load_params(g, averaged)
        g.output("w", averaged)


def one_round(stage: Stage, turn: int) -> None:
    """Run a round in which some messages are lost, doubled, or not deliverable."""
    stage.invoke()
    for _ in range(CLIENTS):
        stage.wire.deliver(keep=turn % 5 == 0)
    if turn % 3 == 0:
        stage.wire.lose()
    if turn % 7 == 0:
        packet = stage.wire.lose()
        stage.wire.nodes[packet.source].send_failed(packet.ship)
    stage.wire.run()
    stage.wire.advance(5 * SECOND)
    stage.wire.steps.clear()
    for node in stage.wire.nodes.values():
        for component in node._components.values():
            component.calls.clear()


def test_three_hundred_rounds_leave_nothing_behind(compiled):
    config = {"model": {"size": 1_000}, "data": {"value": 0.0}}
    each = {3: {"model": {"size": 1_000, "fail_in": "fit"}}}
    stage = Stage(compiled(Round()), clients=CLIENTS, config=config, each=each)
    for turn in range(60):
        one_round(stage, turn)
    gc.collect()
    tracemalloc.start()
    try:
        one_round(stage, 60)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for turn in range(61, 301):
            one_round(stage, turn)
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    # Timers of ended frames are cleared in batches, so some tens of kB come and go; models that
    # stayed would be 240 rounds x 4 clients x 8 kB = 7.7 MB.
    assert after - before < 300_000, "240 rounds of 8 kB models grew the process"
    for node in stage.wire.nodes.values():
        engine = node._engine
        assert not engine.frames
        assert not engine.post.outgoing
        assert not engine.busy
        assert engine.payload_held == 0
        assert len(engine.timers.heap) <= 1 + 256
        assert engine.timers.next() is None
        assert len(engine.peers.records) <= CLIENTS
    assert stage.server.component("aggregator").rounds == {}
    assert stage.server.counters["late"] + stage.server.counters["answer_failed"] > 200
