"""What holds for every run: the same again, whatever order, and nothing lost or doubled."""

import os
import subprocess
import sys

import numpy as np
import pytest

from bb_ir.errors import BytesAndBrainsError
from bb_sim import (
    Clock,
    Compute,
    Crash,
    Join,
    Leave,
    Link,
    Partition,
    Scenario,
    Simulation,
    simulate,
)
from bb_sim._events import ARRIVE

ROUGH = {
    "links": Link("20ms", "30ms", "heavy", loss=0.05, duplicate=0.1, reorder=0.3, reorder_by="2s"),
    "compute": {"client": Compute("100ms", "50ms", slow=0.3)},
    "clocks": {"client": Clock("1s", 1e-4)},
    "faults": (Partition("client[0:2]", "400ms", "1500ms"), Crash("client[3]", "100ms", "600ms")),
}


def weights(simulation):
    return np.array(simulation.root.component("model").w)


# Same seed, same run


def test_same_seed_gives_the_same_run(simulation):
    first, second = (simulation(program={"quorum": 0.3}, **ROUGH).run() for _ in range(2))

    assert first.to_dict() == second.to_dict()
    assert first.complete


def test_other_seed_gives_another_run(simulation):
    digests = {simulation(program={"quorum": 0.3}, seed=n, **ROUGH).run().digest for n in range(5)}

    assert len(digests) == 5


SCRIPT = """
import bb_sim, sys
from bb_compiler import Compiler
from bb_testing import programs as p
from bytesandbrains.programs import FederatedAveraging
compiler = Compiler()
for slot, part in {"peers": p.FixedPeers, "model": p.CountingModel, "data": p.ListSource,
                   "aggregator": p.SumAggregator}.items():
    compiler.bind(slot, part)
artifact = compiler.compile(FederatedAveraging(6, quorum=0.3).build())
scenario = bb_sim.Scenario(
    peers={"client": 6}, rounds=4, seed=3,
    links=bb_sim.Link("20ms", "40ms", "heavy", loss=0.1, duplicate=0.2, reorder=0.3),
    compute={"client": bb_sim.Compute("30ms", "40ms", slow=0.5)},
    faults=(bb_sim.Crash("client[30%]", "100ms", "1s"),),
    liars=(bb_sim.Liar("client[1]", "garbage", share=0.5),),
)
print(bb_sim.simulate(artifact, scenario).digest)
"""


def test_run_does_not_depend_on_the_hash_seed():
    def digest(hash_seed):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert digest("1") == digest("2") != ""


@pytest.mark.parametrize("seed", range(4))
def test_running_late_changes_nothing(simulation, seed):
    late, eager = (
        simulation(program={"quorum": 0.3}, seed=seed, late=late, **ROUGH) for late in (True, False)
    )

    assert late.run().to_dict() == eager.run().to_dict()
    assert np.array_equal(weights(late), weights(eager))


def test_running_late_changes_nothing_where_all_delays_are_alike(simulation):
    alike = {"links": Link("10ms"), "compute": {"client": Compute("10ms")}}
    late, eager = (simulation(late=late, **alike) for late in (True, False))

    assert late.run().to_dict() == eager.run().to_dict()


def updates_on_the_way(simulation):
    """Return the most updates that were on their way at once."""
    most = 0
    while not simulation.done and simulation.step():
        flying = (entry for entry in simulation._world.events.heap if entry[1] == ARRIVE)
        edges = [getattr(entry[-1], "edge", "") for entry in flying]
        most = max(most, edges.count("update"))
    return most


def test_answers_are_computed_just_before_they_are_folded(simulation):
    world = {
        "links": Link("10ms", "50ms"),
        "compute": {"client": Compute("1s", "100ms")},
        "rounds": 1,
    }

    assert updates_on_the_way(simulation(40, **world)) <= 2
    assert updates_on_the_way(simulation(40, late=False, **world)) > 10


# What the result is


def test_result_is_that_of_a_perfect_network(simulation):
    expected = simulation()
    expected.run()
    rough = simulation(
        links=Link("5ms", "100ms", "heavy", duplicate=0.5, reorder=0.5, reorder_by="3s"),
        compute={"client": Compute("50ms", "500ms", slow=0.2)},
        clocks={"client": Clock("1s", 1e-3)},
        seed=9,
    )

    result = rough.run()

    assert np.array_equal(weights(rough), weights(expected))
    assert sum(one.refused["duplicate"] for one in result.rounds) > 0
    assert [one.answered for one in result.rounds] == [8, 8, 8]


def test_round_takes_its_slowest_way_there_and_back(simulation):
    result = simulation(
        rounds=1,
        links=Link("10ms"),
        between={"client[2] -> server": Link("700ms")},
        compute={"client": Compute("100ms")},
    ).run()

    assert result.rounds[0].seconds == 0.81


def test_bandwidth_lets_envelopes_on_a_link_take_turns(simulation):
    config = {"model": {"size": 12_500}}  # 100 kB of parameters
    slow = simulation(1, config=config, rounds=1, links=Link("10ms", bandwidth="1MB/s")).run()

    assert 0.22 < slow.rounds[0].seconds < 0.24


def test_peer_that_works_takes_what_comes_next_afterwards(simulation):
    result = simulation(
        2,
        program={"quorum": 0.5, "deadline": "2s"},
        rounds=3,
        links=Link("10ms"),
        compute={"client": Compute("1500ms", slow=0.5, factor=3.0)},
        seed=0,
    ).run()
    late = sum(one.refused["late"] + one.refused["unknown_frame"] for one in result.rounds)

    assert [dict(one.ended) for one in result.rounds] == [{"done": 1}] * 3
    assert [one.answered for one in result.rounds] == [1, 1, 1]
    assert late >= 1  # the slow one answers the first round in the third


def test_bytes_and_envelopes_are_told_by_edge(simulation):
    (one, *_) = simulation(4).run().rounds

    assert one.envelopes == {"weights": 4, "update": 4}
    assert all(size > 4 * 100 for size in one.sent_bytes.values())
    assert one.asked == one.answered == 4
    assert one.stragglers == 0


def test_pause_lies_between_rounds(simulation):
    first, second, _ = simulation(pause="2s").run().rounds

    assert second.started_ns - first.ended_ns == 2 * 10**9


# Faults


def test_lost_answers_are_told_and_a_quorum_does_without(simulation):
    world = {"links": Link(loss=0.2), "rounds": 10, "seed": 2}

    tolerant = simulation(20, program={"quorum": 0.3}, **world).run()
    strict = simulation(20, program={"quorum": 1.0}, **world).run()

    lost = sum(one.lost["link"] for one in tolerant.rounds)
    assert 40 < lost < 140
    assert all(one.ended == {"done": 1} for one in tolerant.rounds)
    assert sum(one.stragglers for one in tolerant.rounds) >= 40
    assert all(one.ended == {"failed": 1} for one in strict.rounds)
    assert all(one.failures["QuorumNotMet"] == 1 for one in strict.rounds)


def test_partition_silences_and_heals(simulation):
    result = simulation(
        program={"quorum": 0.5, "deadline": "1s"},
        rounds=4,
        faults=(Partition("client[0:3]", "500ms", "2500ms"),),
        pause="500ms",
    ).run()

    assert [one.answered for one in result.rounds] == [8, 5, 5, 8]
    assert sum(one.lost["partition"] for one in result.rounds) == 6


def test_sender_hears_that_nobody_is_there(simulation):
    program = {"quorum": 0.5, "deadline": "20s"}
    gone = (Leave("client[0:2]", "0"),)
    told = simulation(program=program, rounds=1, faults=gone).run().rounds[0]
    untold = simulation(program=program, rounds=1, faults=gone, tell_lost=False).run().rounds[0]

    assert told.lost == untold.lost == {"nobody_there": 2}
    assert told.seconds < 1
    assert untold.seconds == 20


def test_client_that_crashes_while_it_works_never_answers(simulation):
    result = simulation(
        program={"quorum": 0.5, "deadline": "2s"},
        rounds=2,
        links=Link("10ms"),
        compute={"client": Compute("500ms")},
        faults=(Crash("client[1]", "200ms", "1s"),),
    ).run()

    assert [one.answered for one in result.rounds] == [7, 8]
    assert result.rounds[0].lost == {"sender_stopped": 1}


def test_client_starts_again_with_fresh_state(simulation):
    running = simulation(rounds=4, pause="1s", faults=(Crash("client[1]", "500ms", "100ms"),))
    running.run()

    fits = {
        name: node.component("model").methods.count("fit")
        for name, node in running.nodes.items()
        if name != "server"
    }
    assert fits.pop("client[1]") == 3
    assert set(fits.values()) == {4}


def test_server_that_crashes_goes_on_with_the_next_round(simulation):
    result = simulation(
        rounds=3,
        links=Link("100ms"),
        faults=(Crash("server", "50ms", "1s"),),
    ).run()

    assert [dict(one.ended) for one in result.rounds] == [{"crashed": 1}, {"done": 1}, {"done": 1}]
    assert result.rounds[1].started_ns == 1_050_000_000
    assert result.complete


def test_server_that_never_comes_back_ends_the_run(simulation):
    result = simulation(links=Link("100ms"), faults=(Crash("server", "50ms"),)).run()

    assert [dict(one.ended) for one in result.rounds] == [{"crashed": 1}]


def test_peers_join(simulation):
    result = simulation(
        program={"quorum": 0.5}, faults=(Join("client[4:]", "1s"),), pause="600ms"
    ).run()

    assert [one.answered for one in result.rounds] == [4, 4, 8]


def test_time_is_over_before_the_rounds(simulation):
    result = simulation(rounds=50, until="1s", links=Link("100ms")).run()

    assert not result.complete
    assert 4 <= len(result.rounds) <= 6


# Wrong scenarios


@pytest.mark.parametrize(
    ("scenario", "told"),
    [
        ({"peers": {"clinet": 3}}, "did you mean 'client'"),
        ({"peers": {"client": 0}}, "at least 1"),
        ({"target": "FederatedAveragin"}, "did you mean 'FederatedAveraging'"),
        ({"faults": (Crash("client[99]", "1s"),)}, "numbers from 0 to 2"),
        ({"faults": (Crash("clients", "1s"),)}, "did you mean 'client'"),
        ({"faults": (Crash("client[a]", "1s"),)}, "client[10%]"),
        ({"faults": (Partition("client", "2s", "1s"),)}, "after its beginning"),
        ({"faults": (Crash("client", "soon"),)}, "at of [[faults]] number 1 is 'soon'"),
        ({"links": Link("-1s")}, "latency of [links] is '-1s'"),
        ({"links": Link(loss=2.0)}, "a share from 0 to 1"),
        ({"links": Link(bandwidth="fast")}, "'10MB/s'"),
        ({"between": {"server": Link()}}, "server -> client"),
        ({"between": {"server -> nobody": Link()}}, "names the class 'nobody'"),
        ({"compute": {"clients": Compute()}}, "did you mean 'client'"),
        ({"compute": {"client": Compute(factor=0.5)}}, "at least 1"),
        ({"clocks": {"client": Clock(drift=3.0)}}, "drift of [clocks.client]"),
        ({"rounds": 0}, "at least 1"),
        ({"until": "0"}, "longer than nothing"),
    ],
)
def test_wrong_scenario_is_refused_with_what_is_wrong(artifact, scenario, told):
    with pytest.raises(BytesAndBrainsError) as caught:
        Simulation(artifact(3), Scenario(**{"peers": {"client": 3}, **scenario}))

    assert told in str(caught.value)


def test_peer_that_cannot_be_installed_is_told_before_anything_runs(artifact):
    with pytest.raises(BytesAndBrainsError, match="no configuration field 'speed'"):
        Simulation(artifact(3), config={"client.model": {"speed": 3}})


def test_simulate_is_the_short_way(artifact):
    result = simulate(artifact(3), Scenario(peers={"client": 3}, rounds=2))

    assert result.complete
    assert result.installed == 4


@pytest.mark.parametrize("seed", range(4))
def test_values_by_reference_change_nothing(simulation, seed):
    by_reference, by_bytes = (
        simulation(program={"quorum": 0.3}, seed=seed, by_reference=each, **ROUGH)
        for each in (True, False)
    )

    assert by_reference.run().to_dict() == by_bytes.run().to_dict()
    assert np.array_equal(weights(by_reference), weights(by_bytes))
