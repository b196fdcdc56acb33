"""The fixtures do for third parties what their documentation says: tests of theirs run here."""

import re
from pathlib import Path

import pytest

from bb_sim import Crash, Join, Leave, Liar, Link, Partition, Scenario
from bb_testing.federations import compile_program, scenario_of

pytest_plugins = ["pytester"]

HEAD = """
import pytest

import bytesandbrains as bb
from bb_testing import programs

PARTS = {
    "model": (programs.CountingModel, {"size": 2}),
    "data": programs.ListSource,
    "peers": programs.FixedPeers,
    "aggregator": programs.SumAggregator,
}

def program(cohort=3, **more):
    return bb.programs.FederatedAveraging(cohort, **more)
"""


@pytest.fixture
def passing(pytester):
    """Run tests as a third party writes them, and see that all pass."""

    def run(body, *, passed=1):
        pytester.makepyfile(HEAD + body)
        result = pytester.runpytest_subprocess(
            "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "error"
        )
        result.assert_outcomes(passed=passed)

    return run


def test_federation_runs_round_by_round(passing):
    passing("""
def test_rounds(federation):
    data = {"value": 2.0}
    fed = federation(program(), PARTS, peers={"client": 3}, rounds=3, config={"data": data})
    first = fed.step()
    assert (first.number, first.asked, first.answered) == (1, 3, 3)
    assert fed.run().complete
    assert [one.number for one in fed.rounds] == [1, 2, 3]
    assert fed.component("server", "model").w.tolist() == [18.0, 18.0]
    with pytest.raises(AssertionError, match="after 3 rounds no other"):
        fed.step()
    with pytest.raises(KeyError, match="there are server"):
        fed.component("client[9]", "model")
""")


def test_outputs_are_found_by_name(passing):
    passing("""
def test_outputs(federation):
    fed = federation(program(), PARTS, peers={"client": 3}, rounds=2)
    fed.run()
    names = [name for name in fed.rounds[0].outputs]
    assert names and len(fed.outputs(names[0])) == 2
    with pytest.raises(KeyError, match="no round published 'nothing'; there is"):
        fed.outputs("nothing")
""")


def test_faults_are_said_in_a_few_words(passing):
    passing(
        """
def test_faults(federation):
    fed = federation(
        program(6, quorum=0.1, deadline="2s"), PARTS, peers={"client": 6}, rounds=2, seed=3,
        latency="10ms", loss=0.4, crash={"client[0]": "0s"},
    )
    fed.run()
    assert fed.lost["link"] > 0
    assert fed.rounds[0].answered < fed.rounds[0].asked

def test_liars(federation):
    fed = federation(
        program(3, quorum=0.5), PARTS, peers={"client": 3}, lie={"client[1]": "truncate"}
    )
    fed.run()
    assert fed.refused or fed.failures
""",
        passed=2,
    )


def test_equal_federations_run_alike(passing):
    passing("""
def test_digest(federation):
    made = [
        federation(program(2), PARTS, peers={"client": 5}, seed=4, jitter="10ms").run()
        for _ in range(2)
    ]
    assert made[0].digest == made[1].digest
    other = federation(program(2), PARTS, peers={"client": 5}, seed=5, jitter="10ms").run()
    assert other.digest != made[0].digest
""")


def test_federations_are_closed_after_the_test(passing):
    passing(
        """
kept = []

def test_it(federation, local_federation):
    fed = federation(program(), PARTS, peers={"client": 3})
    fed.run()
    kept.append(fed.component("server", "model"))
    local = local_federation(program(), PARTS, nodes={"client": 3})
    local.run()
    kept.append(local.server.component("model"))
    assert [model.closed for model in kept] == [0, 0]

def test_afterwards():
    assert [model.closed for model in kept] == [1, 1]
""",
        passed=2,
    )


def test_local_federation_is_one_of_real_nodes(passing):
    passing("""
def test_local(local_federation):
    fed = local_federation(
        program(2), PARTS, nodes={"client": 2}, config={"data": {"value": 1.0}}, seed=2
    )
    fed.run()
    assert fed.server.component("model").w.tolist() == [3.0, 3.0]
    assert len(fed.bus.nodes) == 3
""")


def test_plugins_are_bound_by_name_and_artifacts_as_they_are(passing):
    passing(
        """
def test_names(federation):
    bind = {
        "model": ("mlp", {"layers": (64, 8, 10)}), "data": "digits", "peers": "static",
        "aggregator": "fedavg",
    }
    split = {"split": "train", "partition": "iid", "clients": 2}
    fed = federation(
        program(2), bind, peers={"client": 2}, config={"data": lambda i: {**split, "client": i}}
    )
    assert fed.step().answered == 2

def test_artifact(federation):
    compiler = bb.Compiler()
    for slot, part in PARTS.items():
        compiler.bind(slot, part[0] if isinstance(part, tuple) else part)
    artifact = compiler.compile(program(2).build())
    assert federation(artifact, peers={"client": 2}).run().complete
    assert federation(artifact.SerializeToString(), peers={"client": 2}).run().complete
    with pytest.raises(ValueError, match="bound already"):
        federation(artifact, PARTS)
""",
        passed=2,
    )


def test_seeded_is_another_for_each_test(passing):
    passing(
        """
drawn = []

@pytest.mark.parametrize("turn", [1, 2])
def test_one(seeded, turn):
    drawn.append(seeded.random())

def test_two(seeded):
    assert len({*drawn, seeded.random()}) == 3
""",
        passed=3,
    )


def test_seeded_depends_on_the_name_of_the_test_alone(pytester):
    source = "def test_it(seeded): print('drawn', seeded.random())"
    lines = []
    for name in ("one", "other"):
        pytester.makepyfile(**{f"test_{name}": source})
        run = pytester.runpytest_inprocess("-q", "-s", "-p", "no:randomly", f"test_{name}.py")
        lines.append([line for line in run.outlines if "drawn" in line])
    assert lines[0] == lines[1] != []


# ---- keywords


def test_keywords_make_a_scenario():
    made = scenario_of(
        peers={"client": 4}, loss=0.1, latency="5ms", crash={"client[0]": "1s"},
        join={"client[1]": "2s"}, leave={"client[2]": "3s"},
        partition={"client[3]": ("1s", "2s"), "client[0]": "4s"}, lie={"client[1]": "nan"},
        liars=[Liar("client[2]", "huge")], faults=[Crash("server", "9s", back="1s")],
    )  # fmt: skip
    assert made == Scenario(
        peers={"client": 4}, rounds=1, links=Link(loss=0.1, latency="5ms"),
        faults=(
            Crash("server", "9s", back="1s"), Crash("client[0]", "1s"), Join("client[1]", "2s"),
            Leave("client[2]", "3s"), Partition("client[3]", "1s", "2s"),
            Partition("client[0]", "4s"),
        ),
        liars=(Liar("client[2]", "huge"), Liar("client[1]", "nan")),
    )  # fmt: skip


def test_an_unknown_keyword_is_an_error_that_says_what_there_is():
    with pytest.raises(TypeError, match=r"no fault or field is called 'losss'; there are .*loss"):
        scenario_of(losss=0.1)


def test_without_the_compiler_the_error_says_what_to_install(monkeypatch):
    class Program:
        def build(self):
            from onnx import ModelProto

            return ModelProto()

    monkeypatch.setitem(__import__("sys").modules, "bb_compiler", None)
    with pytest.raises(ImportError, match=r"pip install"):
        compile_program(Program(), {})


# ---- documentation


def test_tests_of_the_readme_pass(pytester):
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL)):
        pytester.makepyfile(**{f"test_readme{number}": code})
    result = pytester.runpytest_subprocess("-q", "-p", "no:randomly", "-p", "no:cacheprovider")
    outcomes = result.parseoutcomes()
    assert outcomes.keys() <= {"passed", "skipped"}
    assert outcomes["passed"] > 15
