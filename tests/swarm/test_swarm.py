"""A smaller swarm than `nox -s swarm`, and what is printed of a world that fails.

That it can fail is shown by `test_planted_bugs`.
"""

import runpy
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from swarming.parts import Sum
from swarming.planting import found
from swarming.programs import PROGRAMS
from swarming.runs import broken, run_once, world_of
from swarming.shrinking import shrunk, to_toml

from bb_sim import Crash, Join, Liar, Link, Scenario, read_scenario

#: So many worlds of each program; enough that all that is counted below happens. They stay the same
#: when programs are added.
SEEDS = range(0, 104, 13)


@pytest.mark.parametrize("name", PROGRAMS)
def test_all_holds_in_a_calm_world(name):
    assert found(name) == ""


@pytest.mark.parametrize("name", PROGRAMS)
def test_all_holds_in_every_world(name):
    for seed in SEEDS:
        _, world = world_of(seed, name)
        assert broken(name, world) == [], f"nox -s swarm -- --seed {seed} --program {name}"


@pytest.mark.parametrize("name", PROGRAMS)
def test_worlds_are_neither_dead_nor_harmless(name):
    seen = Counter()
    for seed in SEEDS:
        run = run_once(*world_of(seed, name), late=True)
        seen["accepted"] += len(run.watch.accepted)
        for fold in run.watch.ledger.folds.values():
            seen["folded"] += fold.sums
            seen["abandoned"] += bool(fold.parts and not fold.sums)
        for life in run.watch.lives.values():
            seen["fired"] += sum(life.fired.values())
            seen["refused"] += sum(life.dropped.values())
            seen["failed"] += sum(life.failed.values())

    case = PROGRAMS[name]()
    least = {"accepted": 80, "refused": 10, "failed": 1}
    if case.folds:
        least |= {"folded": 1}
    if name != "gossip":
        least |= {"fired": 1}
    assert all(seen[what] >= count for what, count in least.items()), seen


def test_enough_worlds_allow_learning():
    seeds = range(0, 30 * len(PROGRAMS), len(PROGRAMS))
    allowed = [run_once(*world_of(seed, "learning"), late=True).learns for seed in seeds]

    assert allowed.count(True) >= 8


# ---- what is printed of a failure


def test_failing_world_is_shrunk_to_what_makes_it_fail():
    liar = Liar("client[1]", "nan")
    _, world = world_of(7 * len(PROGRAMS), "fedavg")
    made = Scenario(
        peers=world.peers, rounds=3, seed=4, until="10m", pause="3ms",
        links=Link(latency="10ms", loss=0.2, duplicate=0.1),
        faults=(Crash("client[0]", "1s"), Join("client[2]", "2s")),
        liars=(Liar("client[4]", "flood"), liar),
    )  # fmt: skip

    def fails(one):
        return bool(one.liars) and liar in one.liars and bool(one.links.duplicate)

    assert shrunk(made, fails) == Scenario(
        peers=world.peers, rounds=1, seed=4, until="10m", liars=(liar,), links=Link(duplicate=0.1)
    )


@pytest.mark.parametrize("seed", range(40))
def test_printed_world_is_the_same_world_again(seed, tmp_path):
    _, world = world_of(seed)
    file = tmp_path / "world.toml"
    file.write_text(to_toml(world))

    assert read_scenario(file) == world


def test_seed_is_told_in_full_and_so_is_a_world_of_a_file(monkeypatch, capsys, tmp_path):
    file = tmp_path / "world.toml"
    file.write_text(to_toml(world_of(3)[1]))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(Path(__file__).parent / "run.py"), run_name="__main__")
        return end.value.code, capsys.readouterr()

    for arguments in (["--seed", "3"], ["--program", "again", "--scenario", str(file)]):
        code, told = run(*arguments)
        assert code == 0
        assert "program again" in told.out
        assert told.out.endswith("all holds\n")
    assert "--scenario needs --program" in run("--scenario", str(file))[1].err


def test_failure_is_told_with_its_command_and_its_least_world(monkeypatch, capsys):
    def broken_mean(self, ctx):
        return 1 / 0

    monkeypatch.setattr(Sum, "aggregate", broken_mean)
    monkeypatch.setattr(sys, "argv", ["run.py", "--first", "2", "--seeds", "1"])

    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(Path(__file__).parent / "run.py"), run_name="__main__")

    told = capsys.readouterr().out
    assert end.value.code == 1
    assert "seed 2 (rounds) fails; once more: nox -s swarm -- --seed 2\n" in told
    assert "ops failed with ZeroDivisionError" in told
    assert "\n1 worlds, 1 failed, " in told
    assert "faults" not in told.partition("the least that fails")[2]
