"""What a Node holds for work under way is told by kind, and comes back to nothing."""

import pytest

import bb_dsl as bb
from bb_runtime.leftovers import leftovers
from bb_testing.programs import CountingModel, Stage

SECOND = 10**9


class Round(bb.Module):
    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def __init__(self, retries: int = 0) -> None:
        super().__init__()
        self.retries = retries

    def body(self, g: bb.Graph) -> None:
        got = g.net_out("ask", self.peers.sample(g, 2), self.model.params(g), retries=self.retries)
        self.model.load_params(g, got)
        back = g.net_out("tell", g.sender(got), self.model.params(g))
        done = g.gather(back, deadline="5s", on_short="continue")
        g.output("count", done.count)


class Ticks(bb.Module):
    peer_class = "peer"
    model = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        with g.every("1s", overlap="queue"):
            g.output("w", self.model.params(g))


class Later(CountingModel):
    defers = ("params",)

    def params(self, ctx):
        held = super().params(ctx)
        return ctx.defer(lambda: held)


def test_round_that_waits_holds_its_frame_and_its_deadlines(compiled):
    stage = Stage(compiled(Round()), clients=2)
    stage.invoke()

    assert leftovers(stage.server) == {
        "live frames": 1,
        "timers": 2,
        "expected answers of envelopes": 2,
    }
    assert leftovers(stage.clients[0]) == {}


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_nothing_is_left_of_a_round_however_it_ended(compiled, lost):
    stage = Stage(compiled(Round()), clients=2, config={"model": {"size": 2_000}})
    stage.invoke()
    del stage.wire.flying[:lost]
    stage.wire.run()
    stage.wire.advance(5 * SECOND)

    assert [leftovers(node) for node in stage.wire.nodes.values()] == [{}, {}, {}]


def test_envelope_that_may_be_sent_again_is_held_until_it_came(compiled):
    stage = Stage(compiled(Round(retries=2)), clients=1)
    stage.invoke()

    held = leftovers(stage.server)
    stage.wire.run()

    assert held["unacknowledged envelopes"] == held["envelopes of peers to be sent again"] == 1
    assert leftovers(stage.server) == {}


def test_half_received_envelope_is_a_lease_with_its_bytes_and_charges(compiled):
    stage = Stage(compiled(Round()), clients=1, config={"model": {"size": 2_000}})
    stage.invoke()
    [client] = stage.clients
    data = memoryview(stage.wire.flying[0].ship.envelope.to_bytes())
    end = 32 + int.from_bytes(data[8:12], "little")

    lease = client.offer(data[:32], data[32:end], stage.server.peer)

    bytes_ = lease.buffer.nbytes
    assert leftovers(client) == {
        "leases": 1,
        "bytes": bytes_,
        "frames charged to peers": 1,
        "bytes charged to peers": bytes_,
    }
    client.abandon(lease)
    assert leftovers(client) == {}


def test_deferred_work_is_held_with_its_slot(compiled):
    stage = Stage(compiled(Ticks(), model=Later))
    stage.run()
    stage.wire.advance(SECOND)

    held = leftovers(stage.server)
    stage.wire.run()

    assert held == {
        "live frames": 1,
        "pieces of deferred work": 1,
        "slots": 1,
        "timers": 1,
    }
    assert leftovers(stage.server) == {}


def test_ticks_to_come_and_ticks_in_line_are_nothing_under_way(compiled):
    stage = Stage(compiled(Ticks()))
    stage.run()
    stage.server.pause()
    stage.wire.advance(3 * SECOND)

    assert leftovers(stage.server) == {}
    assert not stage.wire.outputs("w")
