"""Liars are refused, or cost their own answer, and break no Node."""

import numpy as np
import pytest

from bb_runtime import Options
from bb_sim import Liar, Link

KINDS = (
    "nan", "huge", "flip", "noise", "shape", "truncate", "garbage", "replay", "flood", "silence",
)  # fmt: skip


@pytest.fixture
def lied(simulation):
    """Run some rounds in which one client of six lies."""

    def lied_(kind, **scenario):
        running = simulation(
            6,
            program={"quorum": 0.5, "deadline": "1s", "aggregator": "fedavg"},
            rounds=3,
            links=Link("10ms"),
            liars=(Liar("client[2]", kind, times=50, scale=10.0),),
            **scenario,
        )
        result = running.run()
        running.drain()
        return running, result.rounds

    return lied_


def model(running):
    return np.array(running.root.component("model").w)


@pytest.mark.parametrize("kind", KINDS)
def test_rounds_end_whatever_one_peer_sends(lied, kind):
    running, rounds = lied(kind)

    assert [dict(one.ended) for one in rounds] == [{"done": 1}] * 3
    assert all(node.live_frames == 0 for node in running.nodes.values())
    assert np.isfinite(model(running)).all()


@pytest.mark.parametrize("kind", ["nan", "huge"])
def test_impossible_numbers_are_refused_by_the_aggregator(lied, kind):
    _, rounds = lied(kind)

    assert [one.failures["UpdateOutOfRange"] for one in rounds] == [1, 1, 1]
    assert [one.outputs["round"].last["count"] for one in rounds] == [5, 5, 5]


@pytest.mark.parametrize(
    ("kind", "reasons"),
    [
        ("truncate", {"truncated", "abandoned"}),
        ("garbage", {"bad_magic", "bad_crc", "bad_header", "bad_program", "bad_shape", "bad_value",
                     "version_skew", "unknown_edge", "unknown_version", "unexpected", "truncated",
                     "bad_fill", "bad_deadline", "stale", "unknown_frame", "late"}),
        ("replay", {"duplicate", "late"}),
    ],
)  # fmt: skip
def test_damaged_envelopes_are_counted_by_reason(lied, kind, reasons):
    _, rounds = lied(kind)

    refused = [reason for one in rounds for reason in one.refused]
    assert refused
    assert set(refused) - {"answer_failed"} <= reasons


def test_wrong_shapes_cost_the_liar_its_answer_only(lied):
    _, rounds = lied("shape")

    assert [one.outputs["round"].last["count"] for one in rounds] == [5, 5, 5]
    assert all(one.failures or one.refused for one in rounds)


def test_flood_is_refused_one_by_one(lied):
    running, rounds = lied("flood")

    # The first is its answer; all others come after it, to an entry that is closed.
    assert [one.envelopes["update"] for one in rounds] == [56, 56, 56]
    assert running.root.counters["late"] == 150
    assert [one.outputs["round"].last["count"] for one in rounds] == [6, 6, 6]


def test_node_with_small_bounds_lets_wait_what_is_beyond_them(simulation):
    running = simulation(
        40,
        program={"quorum": 0.1, "deadline": "1s"},
        rounds=2,
        links=Link("10ms"),
        options=Options(max_frames=1),  # the round itself is one
    )

    result = running.run()
    running.drain()

    assert [dict(one.ended) for one in result.rounds] == [{"failed": 1}] * 2
    assert running.root.counters["later"] == 80
    assert running.root.counters["late"] == 80  # once there was room, in their order
    assert running.kept_waiting == []


def test_silence_is_a_straggler(lied):
    _, rounds = lied("silence")

    assert [one.stragglers for one in rounds] == [1, 1, 1]
    assert [one.seconds for one in rounds] == [1.0] * 3


def test_turned_signs_pass_where_nothing_looks_at_them(lied, simulation):
    _, lies = lied("flip")

    assert [one.answered for one in lies] == [6, 6, 6]


def test_some_envelopes_only(simulation):
    running = simulation(
        6,
        program={"quorum": 0.5, "aggregator": "fedavg"},
        rounds=40,
        liars=(Liar("client[2]", "nan", share=0.3),),
    )

    rounds = running.run().rounds
    refused = sum(one.failures["UpdateOutOfRange"] for one in rounds)

    assert 4 <= refused <= 20
    assert sum(one.rejected for one in rounds) == refused
    assert {one.answered + one.rejected for one in rounds} == {6}
    assert {one.stragglers for one in rounds} == {0}


def test_nobody_is_blamed_for_a_gather_that_falls_short(simulation):
    running = simulation(
        4,
        program={"quorum": 1.0, "aggregator": "fedavg"},
        rounds=1,
        liars=(Liar("client[0]", "nan"),),
    )

    (only,) = running.run().rounds

    assert dict(only.failures) == {"UpdateOutOfRange": 1, "QuorumNotMet": 1}
    assert dict(only.failed_on) == {"client[0]": 1}
    assert only.advice["UpdateOutOfRange"]
