"""Results: plain data, and pictures."""

import json
import math

import numpy as np
import pytest

from bb_ir.params import ParameterSet
from bb_sim import Compute, Crash, Link, Partition
from bb_sim.plots import _title
from bb_sim.results import Output, plain, series_of

PNG = b"\x89PNG\r\n"


@pytest.fixture
def result(simulation):
    return simulation(
        program={"quorum": 0.3, "deadline": "1s"},
        links=Link("10ms", "20ms", loss=0.1),
        compute={"client": Compute("50ms")},
        faults=(Crash("client[0]", "60ms", "100ms"), Partition("client[1]", "0", "2s")),
    ).run()


def test_result_is_json(result):
    told = json.loads(json.dumps(result.to_dict(), allow_nan=False))

    assert told["peers"] == {"server": 1, "client": 8}
    assert [one["round"] for one in told["rounds"]] == [1, 2, 3]
    assert told["rounds"][0]["lost"]["partition"] == 1


def test_result_stays_as_it_was(simulation):
    running = simulation(rounds=2)
    rounds = running.rounds()
    next(rounds)
    early = running.result()
    told = early.to_dict()

    list(rounds)

    assert early.to_dict() == told
    assert len(running.result().rounds) == 2


def test_timeline_holds_work_and_what_kept_peers_from_it(result):
    kinds = {(span.peer, span.kind) for span in result.spans}

    assert ("client[2]", "work") in kinds
    assert ("client[1]", "cut off") in kinds
    assert ("client[0]", "down") in kinds


def test_pictures_are_drawn(result):
    pytest.importorskip("matplotlib")
    from bb_sim.plots import draw_rounds, draw_timeline

    assert draw_rounds(result).startswith(PNG)
    assert draw_timeline(result).startswith(PNG)


def test_pictures_of_next_to_nothing_are_drawn(simulation):
    pytest.importorskip("matplotlib")
    from bb_sim.plots import draw_rounds, draw_timeline

    short = simulation(1, rounds=1).run()

    assert draw_rounds(short).startswith(PNG)
    assert draw_timeline(short).startswith(PNG)


def test_figures_of_several_peers_are_told_by_mean_least_and_most():
    output = Output()
    for loss in (1.0, 2.0, 6.0):
        output.add({"loss": loss, "note": "x"})

    assert output.to_dict() == {
        "peers": 3, "mean": {"loss": 3.0}, "least": {"loss": 1.0}, "most": {"loss": 6.0},
    }  # fmt: skip


def test_a_mean_is_that_of_the_figures_that_are_numbers():
    output = Output()
    for loss in (1.0, math.nan, 3.0):
        output.add({"loss": loss})

    assert output.means() == {"loss": 2.0}


def test_means_do_not_depend_on_the_order():
    numbers = [0.1, 1e16, -1e16, 0.7, 3e-9]
    ways = [Output(), Output()]
    for way, order in zip(ways, (numbers, numbers[::-1]), strict=True):
        for number in order:
            way.add(number)

    assert ways[0].means() == ways[1].means()


def test_series_leave_rounds_without_the_figure_out(result):
    del result.rounds[1].outputs["round"]

    (examples,) = series_of(result.rounds, "examples")

    assert examples.name == "round.examples"
    assert examples.rounds == [1, 3]


def test_published_values_become_plain():
    params = ParameterSet.from_tensors({"w": np.zeros(3, np.float32)})

    assert plain({"a": (1, 2.5), "b": math.nan, "c": np.float32(0.5)}) == {
        "a": [1, 2.5], "b": None, "c": 0.5,
    }  # fmt: skip
    assert plain(np.zeros((2, 3))) == {"dtype": "float64", "shape": [2, 3]}
    assert plain(params)["elements"] == 3
    assert plain(object()).startswith("<object")


def test_title_names_what_ran_and_who_attacked(result):
    pytest.importorskip("matplotlib")
    from bb_sim.plots import draw_rounds

    result.program, result.attack, result.attackers = "Averaging", "scale", ["client[1]"]
    result.components = {"aggregator": "krum", "model": "mine.nets:Small", "peers": "static"}

    lines = _title(result).splitlines()

    assert lines[0] == "Averaging with aggregator krum, model Small; 1 attacker by scale"
    assert lines[1].startswith("1 server, 8 client; 3 rounds, seed ")
    assert draw_rounds(result).startswith(PNG)


def test_result_says_what_filled_the_slots(simulation):
    told = simulation(1, rounds=1).run().to_dict()

    assert told["program"] == "FederatedAveraging"
    assert sorted(told["components"]) == ["aggregator", "data", "model", "peers"]
