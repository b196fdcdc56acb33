"""A simulation that stops at any instant and goes on elsewhere ends as if it had never stopped."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bb_ir.durations import parse_duration
from bb_sim import BadCheckpoint, Clock, Compute, Crash, Liar, Link, Partition
from bb_sim.chaos import random_scenario, violations

ROUGH = {
    "links": Link("20ms", "30ms", "heavy", "1MB/s", loss=0.05, duplicate=0.1, reorder=0.3),
    "compute": {"client": Compute("100ms", "50ms", slow=0.3)},
    "clocks": {"client": Clock("1s", 1e-4)},
    "faults": (
        Partition("client[0:2]", "400ms", "1500ms"),
        Crash("client[3]", "100ms", "600ms"),
        Crash("client[4]", "300ms", "200ms", keep="50ms"),
    ),
    "liars": (Liar("client[5]", "replay", share=0.5), Liar("client[6]", "nan", share=0.3)),
}


def weights(simulation):
    return np.array(simulation.root.component("model").w)


def stopped_at(make, steps):
    """Run so many steps, write down, and go on in another simulation, for each number of steps."""
    simulation = make()
    for count in steps:
        for _ in range(count):
            if not simulation.done:
                simulation.step()
        data = simulation.checkpoint()
        simulation.close()
        simulation = make()
        simulation.resume(data)
    return simulation


@settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 5),
    steps=st.lists(st.integers(0, 80), min_size=1, max_size=3),
    late=st.booleans(),
    by_reference=st.booleans(),
)
def test_stopping_changes_nothing(simulation, seed, steps, late, by_reference):
    def make():
        program = {"quorum": 0.3}
        return simulation(program=program, seed=seed, late=late, by_reference=by_reference, **ROUGH)

    never = make()
    expected = never.run()
    stopped = stopped_at(make, steps)
    found = stopped.run()

    assert found.to_dict() == expected.to_dict()
    assert found.spans == expected.spans
    assert np.array_equal(weights(stopped), weights(never))


def test_rounds_that_were_told_are_not_told_again(simulation):
    first = simulation()
    told = [next(first.rounds()).number]

    second = simulation()
    second.resume(first.checkpoint())
    told += [one.number for one in second.rounds()]

    assert told == [1, 2, 3]


@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 50),
    wanted=st.lists(st.integers(1, 7), min_size=2, max_size=4, unique=True).map(sorted),
    pause=st.sampled_from(["0", "1ns", "20ms", "35ms", "3s"]),
    late=st.booleans(),
    world=st.sampled_from(["even", "rough", "server crashes", "chaos"]),
    quorum=st.sampled_from([0.3, 1.0]),
)
def test_more_rounds_go_on_as_if_asked_for_at_once(
    simulation, *, seed, wanted, pause, late, world, quorum
):
    crash = Crash("server", "600ms", "100ms", keep="0")
    chaotic = random_scenario(seed, {"server": 1, "client": 8})
    worlds = {
        "even": {"links": Link("20ms"), "compute": {"client": Compute("30ms")}},
        "rough": ROUGH,
        "server crashes": {**ROUGH, "faults": (crash,)},
        "chaos": {
            "links": chaotic.links, "compute": chaotic.compute, "clocks": chaotic.clocks,
            "faults": chaotic.faults, "liars": chaotic.liars, "tell_lost": chaotic.tell_lost,
        },
    }  # fmt: skip

    def make(rounds):
        given = {"program": {"quorum": quorum}, "rounds": rounds, "seed": seed, "pause": pause}
        return simulation(late=late, **given, **worlds[world])

    at_once = make(wanted[-1])
    expected = at_once.run()
    going = make(wanted[0])
    going.run()
    for rounds in wanted[1:]:
        data = going.checkpoint()
        going = make(rounds)
        going.resume(data)
        going.run()

    assert going.result().to_dict() == expected.to_dict()
    assert going.result().spans == expected.spans
    assert weights(going).tobytes() == weights(at_once).tobytes()  # NaNs of liars included
    assert [one.number for one in expected.rounds] == list(range(1, wanted[-1] + 1))


def test_a_run_that_is_over_can_be_led_to_its_end(simulation):
    done = simulation(rounds=2, program={"quorum": 0.5}, **ROUGH)
    done.run()

    done.drain()

    assert not violations(done)
    assert not done.in_flight


@pytest.mark.parametrize(
    "spoil", [lambda d: d[:-1], lambda _: b"", lambda d: d[:50] + b"x" + d[51:]]
)
def test_a_damaged_checkpoint_is_refused(simulation, spoil):
    data = simulation().checkpoint()

    with pytest.raises(BadCheckpoint):
        simulation().resume(spoil(data))


@pytest.mark.parametrize(
    ("other", "what"),
    [({"seed": 1}, "the scenario"), ({"program": {"quorum": 0.5}}, "the program")],
)
def test_a_checkpoint_of_something_else_is_refused(simulation, other, what):
    data = simulation().checkpoint()

    with pytest.raises(BadCheckpoint, match=what):
        simulation(**other).resume(data)


# Peers that start again from what they wrote down


def test_a_peer_that_wrote_itself_down_has_its_state_again(simulation):
    faults = (Crash("client[2]", "35ms", "5ms", keep="0"), Crash("client[3]", "35ms", "5ms"))
    running = simulation(
        4, rounds=2, faults=faults, links=Link("10ms"), program={"quorum": 0.5}, late=False
    )

    run_before(running, "35ms")
    learned = running.nodes["client[2]"].component("model").w
    run_before(running, "41ms")

    assert running.nodes["client[2]"].component("model").w.tolist() == learned.tolist() != [0.0]
    assert "client[3]" not in running.nodes, "it starts when something comes to it"


def run_before(simulation, time):
    while simulation._world.events.next_ns < parse_duration(time):
        simulation.step()


def test_a_server_that_wrote_itself_down_goes_on_with_what_it_learned(simulation):
    world = {"rounds": 4, "links": Link("10ms"), "compute": {"client": Compute("20ms")}}
    undisturbed = simulation(4, **world)
    undisturbed.run()
    crashed = simulation(4, faults=(Crash("server", "70ms", "30ms", keep="0"),), **world)
    result = crashed.run()
    lost = simulation(4, faults=(Crash("server", "70ms", "30ms"),), **world)
    lost.run()

    assert result.complete
    assert [dict(one.ended) for one in result.rounds].count({"crashed": 1}) == 1
    assert np.linalg.norm(weights(crashed)) > np.linalg.norm(weights(lost))


def test_how_often_a_peer_writes_has_to_be_a_time(simulation):
    with pytest.raises(Exception, match="keep of"):
        simulation(faults=(Crash("server", "1s", "1s", keep="soon"),))


def test_keeping_and_running_late_go_together(simulation):
    faults = (Crash("client[0:4]", "150ms", "300ms", keep="60ms"), *ROUGH["faults"])
    late, eager = (
        simulation(late=late, program={"quorum": 0.3}, **{**ROUGH, "faults": faults})
        for late in (True, False)
    )

    assert late.run().to_dict() == eager.run().to_dict()
