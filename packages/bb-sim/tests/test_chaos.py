"""Random worlds: whatever happens, every frame ends, nothing is held, no error gets out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bb_dsl as dsl
from bb_sim import Link, Scenario, Simulation
from bb_sim.chaos import random_scenario, violations


def survive(artifact, seed, peers, **more):
    scenario = random_scenario(seed, peers, **more)
    simulation = Simulation(artifact, scenario)
    result = simulation.run()
    simulation.drain()
    assert violations(simulation) == []
    return result


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_every_world_is_survived(artifact, seed):
    program = artifact(6, quorum=0.5, deadline="3s", aggregator="fedavg")

    result = survive(program, seed, {"server": 1, "client": 6})

    assert result.complete
    assert [one.ended.total() for one in result.rounds] == [1, 1, 1]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_worlds_in_which_the_server_fails_too_are_survived(artifact, seed):
    program = artifact(5, quorum=0.4, deadline="2s")

    survive(program, seed, {"server": 1, "client": 5}, faulty=("server", "client"))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_running_late_changes_nothing_in_any_world(artifact, seed):
    program = artifact(5, quorum=0.4, deadline="2s")
    scenario = random_scenario(seed, {"server": 1, "client": 5}, faulty=("server", "client"))

    late, eager = (Simulation(program, scenario, late=late).run() for late in (True, False))

    assert late.to_dict() == eager.to_dict()


class Pairs(dsl.Module):
    """Two rounds at a time: each client is asked twice at one instant, and answers twice."""

    peer_class = "server"
    peers = dsl.slots.PeerSelector(of="client")
    model = dsl.slots.Model()

    def body(self, g):
        with g.rounds(4, width=2):
            asked = g.net_out("ask", self.peers.sample(g, 4), self.model.params(g))
            reply = g.net_out("answer", g.sender(asked), asked)
            g.gather(reply, quorum=0.5, deadline="5s")


def test_running_late_changes_nothing_where_much_happens_at_once(compiled):
    world = Scenario(peers={"client": 5}, links=Link("10ms"))
    program = compiled(Pairs())

    late, eager = (Simulation(program, world, late=late).run() for late in (True, False))

    # Half of the answers come when their round is over: which half depends on their order.
    assert sum(one.refused["late"] for one in eager.rounds) > 0
    assert late.to_dict() == eager.to_dict()


def test_worlds_differ_and_are_found_again():
    peers = {"server": 1, "client": 6}

    made = [random_scenario(seed, peers) for seed in range(50)]

    assert made == [random_scenario(seed, peers) for seed in range(50)]
    assert len({repr(one) for one in made}) == 50
    assert {type(fault).__name__ for one in made for fault in one.faults} == {
        "Crash", "Join", "Leave", "Partition",
    }  # fmt: skip
    assert {liar.kind for one in made for liar in one.liars} >= {"nan", "garbage", "flood"}


def test_violations_are_found(simulation):
    running = simulation(rounds=1)
    next(running.rounds())
    running.root.invoke("FederatedAveraging")

    assert violations(running) == [
        "server holds 1 live frames",
        "server holds 1 ready stretches",
        "server holds 1 timers",
    ]


@pytest.mark.parametrize("late", [True, False])
def test_thousand_peers(simulation, late):
    result = simulation(1_000, rounds=2, late=late).run()

    assert [one.answered for one in result.rounds] == [1_000, 1_000]


def test_peer_that_nobody_asks_is_never_made(artifact):
    simulation = Simulation(artifact(3), random_scenario(0, {"client": 5_000}, rounds=1))

    assert simulation.run().installed < 10
