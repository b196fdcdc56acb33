"""Scenarios from files: what they say, and what is said about mistakes in them."""

import pytest

from bb_sim import (
    BadScenario,
    Crash,
    Liar,
    Link,
    Partition,
    Scenario,
    Simulation,
    read_scenario,
)
from bb_sim._draws import Draws
from bb_sim._population import Population
from bb_sim._reading import duration, rate
from bb_sim.errors import UnknownPeers
from bb_sim.scenario import example_scenario


def read(tmp_path, text):
    path = tmp_path / "scenario.toml"
    path.write_text(text)
    return read_scenario(path)


def test_example_is_a_scenario(tmp_path):
    found = read(tmp_path, example_scenario())

    assert found.program == "bytesandbrains.programs:FederatedAveraging"
    assert found.peers == {"client": 100}
    assert found.between["client[0:5] -> server"].latency == "300ms"
    assert found.compute["client"].factor == 8.0
    assert [type(fault) for fault in found.faults] == [Partition, Crash]
    assert found.liars == (Liar("client[40:43]", "nan", share=0.5),)
    assert found.config["client"]["data"]["clients"] == "{count}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("roundz = 3", "did you mean 'rounds'"),
        ("rounds = 'many'", "rounds of [scenario] is 'many'"),
        ("[links]\nlatncy = '1ms'", "did you mean 'latency'"),
        ("[links]\nspread = 'evn'", "did you mean 'even'"),
        ("[links]\nloss = 'much'", "loss of [links]"),
        ("links = 3", "[links] is 3"),
        ("[between.'a -> b']\nx = 1", "[between.a -> b] has no 'x'"),
        ("[compute]\nclient = 3", "[compute.client] is 3"),
        ("compute = 3", "tables [compute.<class>]"),
        ("[[faults]]\nkind = 'crsh'\npeers = 'a'\nat = '1s'", "did you mean 'crash'"),
        ("[[faults]]\npeers = 'a'\nat = '1s'", "partition, crash, join, leave"),
        ("[[faults]]\nkind = 'crash'\npeers = 'a'", "lacks 'at'"),
        ("[faults]\nkind = 'crash'", "write [[faults]]"),
        ("[[liars]]\npeers = 'a'\nkind = 'nam'", "did you mean 'nan'"),
        ("[[liars]]\nkind = 'nan'", "lacks 'peers'"),
        ("start = 'every'", "one of one, all"),
        ("= 3", "is no TOML"),
        ("inputs = " + "[" * 5_000, "is no TOML"),
    ],
)
def test_mistake_is_told_with_what_was_meant(tmp_path, text, told):
    with pytest.raises(BadScenario) as caught:
        read(tmp_path, text)

    assert told in str(caught.value)
    assert "scenario.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("scenario", "told"),
    [
        (Scenario(liars=(Liar("a", "nam"),)), "did you mean 'nan'"),
        (Scenario(links=Link(latency=20)), "latency of [links] is 20"),
        (Scenario(between={"a -> b": Link(loss="much")}), "loss of [between.a -> b] is 'much'"),
        (Scenario(faults=(Crash("a", at=3),)), "at of [faults] is 3"),
        (Scenario(faults=("crash",)), "expected: of Partition, Crash, Join, Leave"),
        (Scenario(rounds="many"), "rounds of [scenario] is 'many'"),
    ],
)
def test_mistake_in_python_is_told_before_anything_runs(simulation, scenario, told):
    with pytest.raises(BadScenario) as caught:
        Simulation(simulation(2).artifact, scenario)

    assert told in str(caught.value)


@pytest.mark.parametrize("place", ["{}", "{}:", ":{}", "{}%", "1.{}%"])
def test_numbers_of_peers_that_nobody_can_have(place):
    population = Population.of({"client": 3}, seed=0)

    with pytest.raises(UnknownPeers):
        population.select(f"client[{place.format('9' * 5_000)}]", Draws(0), "[[liars]]")


def test_cohort_for_which_an_aggregator_has_no_room_is_told_at_once(simulation):
    with pytest.raises(BadScenario, match=r"1,025 peers .* takes 1,024 updates") as caught:
        simulation(1025, program={"aggregator": "fedavg"})
    assert "cohort=1025" in caught.value.fix

    room = {"data": {"value": 1.0}, "aggregator": {"cohort": 1025}}
    assert simulation(1025, program={"aggregator": "fedavg"}, config=room).root.live_frames == 0


def test_file_that_is_not_there(tmp_path):
    with pytest.raises(BadScenario, match="cannot be read"):
        read_scenario(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "bytes_per_second"),
    [("10MB/s", 10**7), ("100Mbit/s", 12_500_000), ("1.5 kB/s", 1500), ("8bit/s", 1)],
)
def test_rates(text, bytes_per_second):
    assert rate(text, "") == bytes_per_second


@pytest.mark.parametrize("text", ["", "10", "fast", "0MB/s", "-1MB/s"])
def test_what_is_no_rate(text):
    with pytest.raises(BadScenario):
        rate(text, "bandwidth")


@pytest.mark.parametrize(("text", "ns"), [("0", 0), ("0s", 0), ("20ms", 20_000_000), ("2m", 12e10)])
def test_durations(text, ns):
    assert duration(text, "") == ns


@pytest.mark.parametrize("text", ["", "soon", "-1s", "5"])
def test_what_is_no_duration(text):
    with pytest.raises(BadScenario):
        duration(text, "at")
