"""Rounds with `deadline="auto"` in virtual worlds: short where peers fail, and else the same."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bb_sim import Compute, Crash, Liar, Link, Simulation
from bb_sim.chaos import random_scenario, violations

NORMAL = {
    "links": Link("20ms", "30ms"),
    "compute": {"client": Compute("2s", "500ms", slow=0.3, factor=3.0)},
}
#: A fifth of the peers goes for good, and nobody is told.
CRASHED = NORMAL | {"faults": (Crash("client[0:2]", "60s"),), "tell_lost": False}


@pytest.fixture
def run(simulation):
    """Run twelve rounds of ten clients with a deadline."""

    def run_(deadline, *, late=True, **scenario):
        program = {"quorum": 0.5, "deadline": deadline}
        one = simulation(10, rounds=12, late=late, program=program, **scenario)
        return one, one.run()

    return run_


def test_normal_peers_give_the_same_rounds_as_with_the_declared_deadline(run):
    (measuring, measured), (waiting, declared) = (
        run(deadline, **NORMAL) for deadline in ("auto, at most 2m", "2m")
    )

    assert [one.answered for one in measured.rounds] == [10] * 12
    assert [one.seconds for one in measured.rounds] == [one.seconds for one in declared.rounds]
    assert measured.rounds[-1].outputs == declared.rounds[-1].outputs
    left, right = (np.array(one.root.component("model").w) for one in (measuring, waiting))
    assert np.array_equal(left, right)


def test_peers_that_crashed_do_not_hold_rounds_up(run):
    (_, measured), (_, declared) = (
        run(deadline, **CRASHED) for deadline in ("auto, at most 2m", "2m")
    )

    after = [one.seconds for one in measured.rounds[8:]]
    assert max(after) < 40
    assert sum(after) < 60, "asked again only now and then"
    assert max(one.seconds for one in declared.rounds[8:]) == pytest.approx(120, abs=0.1)
    assert sum(one.seconds for one in declared.rounds[8:]) > 240
    assert [one.answered for one in measured.rounds[8:]] == [8] * 4
    assert all(one.ended == {"done": 1} for one in measured.rounds)


def test_peers_that_say_nothing_at_all_cost_a_bound_once(run):
    _, result = run("auto, at most 2m", **NORMAL, liars=(Liar("client[0]", "silence"),))

    assert result.rounds[0].seconds == pytest.approx(120, abs=0.1), "nothing is known yet"
    assert sum(one.seconds for one in result.rounds[1:]) < 240
    assert [one.answered for one in result.rounds] == [9] * 12


def test_running_late_changes_nothing(run):
    late, eager = (run("auto, at most 30s", late=late, **CRASHED)[1] for late in (True, False))

    assert late.to_dict() == eager.to_dict()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_every_world_is_survived(artifact, seed):
    program = artifact(6, quorum=0.4, deadline="auto, at most 3s")
    peers = {"server": 1, "client": 6}
    running = Simulation(program, random_scenario(seed, peers, faulty=("server", "client")))

    result = running.run()
    running.drain()

    assert violations(running) == []
    assert max(one.seconds for one in result.rounds) <= 3.5
