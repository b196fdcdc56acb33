"""What the simulator makes of a Node that closes, and of one that never comes to rest."""

import pytest

import bb_dsl as bb
from bb_runtime import Options
from bb_runtime.errors import EndlessExchange, EndlessLoop
from bb_sim import Crash, Link, Scenario, Simulation


class Spins(bb.Module):
    """Goes round and round, for so long."""

    def __init__(self, turns: int | None) -> None:
        super().__init__()
        self.turns = turns

    def body(self, g: bb.Graph) -> None:
        with g.loop(self.turns) as turn:
            turn.until(turn < 0)
        g.output("turns", g.gather(turn).count)


def simulated(compiled, turns, options=None):
    return Simulation(compiled(Spins(turns)), Scenario(rounds=1), options=options)


def test_a_loop_without_end_is_told_of(compiled, monkeypatch):
    monkeypatch.setattr("bb_runtime.node.Node.poll_until_quiet.__defaults__", (5000,))
    with pytest.raises(EndlessLoop, match=r"in turn \d,\d+ of loop"):
        simulated(compiled, None, Options(max_ops_per_poll=100)).run()


def test_what_one_poll_does_not_do_the_next_ones_do(compiled):
    whole = simulated(compiled, 300).run()
    cut = simulated(compiled, 300, Options(max_ops_per_poll=7)).run()
    assert cut.complete
    assert cut.digest == whole.digest


def test_a_node_that_closed_is_absent(simulation):
    made = simulation(8)
    rounds = made.rounds()
    next(rounds)
    made.nodes["client[1]"].close()
    for _ in rounds:
        pass
    result = made.result()
    assert "client[1]" not in made.nodes
    assert result.complete
    assert [one.answered for one in result.rounds] == [8, 7, 7]
    assert sum(row.gone for row in made.root.peers()) == 1


class Bounce(bb.Module):
    """Gives a ball on to a peer, and that one to the next."""

    peer_class = "peer"
    neighbour = bb.slots.PeerSelector(of="peer")

    def body(self, g):
        g.publish("ball", g.sleep("1s", g.scalar(7)))
        with g.on("ball", "int64") as ball:
            theirs = g.net_out("pass", self.neighbour.sample(g, 1), ball)
        g.publish("ball", theirs)


def bouncing(compiled, **given):
    scenario = Scenario(peers={"peer": 3}, start="all", **given)
    return Simulation(compiled(Bounce()), scenario)


@pytest.mark.parametrize("how", ["run", "drain"])
def test_peers_that_wake_each_other_at_one_instant_are_told_of(compiled, monkeypatch, how):
    monkeypatch.setattr("bb_sim.simulation.MOST_ENVELOPES", 500)
    made = bouncing(compiled, links=Link("0"), until="10s")
    with pytest.raises(EndlessExchange, match=r"500 envelopes .* on 'pass' from peer\[\d\] to"):
        getattr(made, how)()


def test_where_an_envelope_takes_time_the_horizon_ends_what_never_rests(compiled, monkeypatch):
    monkeypatch.setattr("bb_sim.simulation.MOST_ENVELOPES", 500)
    made = bouncing(compiled, links=Link("1ms"), until="2s")

    result = made.run()

    assert not result.complete
    assert made.now_ns == 2 * 10**9
    assert sum(made.nodes["peer[0]"].counters.values()) == 0


def test_lives_that_are_over_leave_nothing_behind(simulation):
    crashes = tuple(Crash("client[0:2]", f"{40 * n + 7}ms", "10ms") for n in range(200))
    world = {
        "rounds": 60, "faults": crashes, "program": {"quorum": 0.5},
        "links": Link("20ms", "30ms", duplicate=0.2),
    }  # fmt: skip
    late, eager = (simulation(4, late=late, **world) for late in (True, False))

    assert late.run().digest == eager.run().digest

    lives = late._lives
    assert lives.ends[1] > 60
    assert len(lives._past) == 2
    assert len(lives._stopped) <= 64 + 2 * late.in_flight
    assert late.result().digest != simulation(4, **{**world, "faults": crashes[:-80]}).run().digest
