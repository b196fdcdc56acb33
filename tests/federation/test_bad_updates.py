"""Bad updates in a federation: each aggregator refuses them, by name and limit, and goes on.

One client of seven sends what is no update. The round goes on without it, the error says who it was
and what would have been right, and the result is that of the six others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import bytesandbrains as bb
from bb_ir.params import ParameterSet
from bb_roles import Batches, DataSource, Model
from bb_roles.registry import bound_class
from bb_runtime import OpFailed
from bb_sim import Link, Scenario, Simulation
from bytesandbrains.local import FrameFailed, LocalFederation

RULES = ("fedavg", "fedopt", "median", "trimmed-mean", "krum")
CLIENTS, BAD = 7, 2


@dataclass(frozen=True)
class Config:
    """What is wrong with a client."""

    wrong: str = ""


class Client(Model):
    """Has four parameters, and gives out others when something is wrong with it."""

    Config = Config

    def __init__(self, config, env):
        super().__init__(config, env)
        self.w = np.zeros(4, np.float32)

    def params(self, ctx):
        w = self.w
        match self.config.wrong:
            case "nan" | "inf" | "-inf":
                w = np.full_like(w, float(self.config.wrong))
            case "one nan":
                w = np.array([0, 0, np.nan, 0], np.float32)
            case "shape":
                w = np.zeros((2, 2), np.float32)
            case "longer":
                w = np.zeros(5, np.float32)
            case "dtype":
                w = w.astype(np.float64)
            case "name":
                return ParameterSet.from_tensors({"v": w})
            case "more":
                return ParameterSet.from_tensors({"w": w, "v": w})
            case "none":
                return ParameterSet.from_tensors({})
        return ParameterSet.from_tensors({"w": w})

    def load_params(self, ctx, params):
        self.w = params["w"].copy()

    def fit(self, ctx, batches):
        self.w = self.w + np.float32(1.0)
        wrong = self.config.wrong
        weights = {"zero": 0, "negative": -3, "fraction": 1.5, "huge": 1 << 62}
        metrics = {"examples": weights.get(wrong, 10), "loss": 1.0}
        return {"loss": 1.0} if wrong == "unweighted" else metrics

    def evaluate(self, ctx, batches):
        return {"examples": 1, "loss": 0.0}

    def forward(self, ctx, x):
        return x

    def backward(self, ctx, grad):
        return grad

    def compute_loss(self, ctx, prediction, target):
        return 0.0


class Data(DataSource):
    def next_batch(self, ctx):
        return np.zeros((1, 1), np.float32), np.zeros(1, np.int64)

    def batches(self, ctx, *, epochs=1):
        return Batches(1, lambda: iter(()))


UPDATES = {
    "nan": "UpdateOutOfRange", "inf": "UpdateOutOfRange", "-inf": "UpdateOutOfRange",
    "one nan": "UpdateOutOfRange", "zero": "MetricsError", "negative": "MetricsError",
    "fraction": "MetricsError", "huge": "MetricsError", "unweighted": "MetricsError",
}  # fmt: skip
#: These the model of the server refuses, too: that is, the first client of a round decides.
LAYOUTS = ("shape", "longer", "dtype", "name", "more", "none")


@pytest.fixture(scope="module")
def artifact():
    """Return federated averaging with a rule."""

    def artifact_(rule):
        compiler = bb.Compiler().bind_peer_selector("peers", "static").bind_model("model", Client)
        compiler.bind_data_source("data", Data)
        compiler.bind("aggregator", bound_class("aggregator", rule))
        program = bb.programs.FederatedAveraging(CLIENTS, quorum=0.5, deadline="2s")
        return bb.load_artifact(compiler.compile(program.build()))

    return artifact_


@pytest.fixture
def federation(artifact):
    """Make a federation of which some clients are wrong."""

    def federation_(rule, wrong="", *, clients=CLIENTS, bad=(BAD,), **settings):
        made = LocalFederation(
            artifact(rule),
            nodes={"client": clients},
            config={
                "client.model": lambda index: {"wrong": wrong if index in bad else ""},
                "aggregator": settings,
            },
        )
        made_.append(made)
        return made

    made_ = []
    yield federation_
    for one in made_:
        one.close()


def refusals(outputs):
    """Return the errors of contributions."""
    return [step.error for step in outputs.failed if step.op == "Contribute"]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("wrong", "code"), UPDATES.items())
def test_impossible_update_costs_its_sender_the_answer(federation, rule, wrong, code):
    running = federation(rule, wrong)

    outputs = running.run()

    (error,) = refusals(outputs)
    assert error.code == code
    assert str(running.peers["client"][BAD]) in str(error)
    assert error.expected
    assert outputs["round"]["count"] == CLIENTS - 1
    np.testing.assert_array_equal(running.params()["w"], 1.0)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("wrong", LAYOUTS)
def test_other_tensors_are_refused_with_the_name_of_their_sender(federation, rule, wrong):
    running = federation(rule, wrong)

    outputs = running.run()

    (error,) = refusals(outputs)
    assert error.code == "UpdateMismatch"
    assert str(running.peers["client"][BAD]) in str(error)
    assert outputs["round"]["count"] == CLIENTS - 1
    np.testing.assert_array_equal(running.params()["w"], 1.0)


@pytest.mark.parametrize("rule", RULES)
def test_rounds_go_on_with_the_same_bad_client(federation, rule):
    running = federation(rule, "nan")

    counts = [outputs["round"]["count"] for outputs in running.rounds(3)]

    assert counts == [CLIENTS - 1] * 3


@pytest.mark.parametrize("rule", RULES)
def test_nobody_left_fails_the_round_and_changes_nothing(federation, rule):
    running = federation(rule, "nan", bad=range(CLIENTS))

    with pytest.raises(FrameFailed) as caught:
        running.run()

    failed = [event.step for event in caught.value.events if isinstance(event.step, OpFailed)]
    # So many that no quorum is left; the round does not wait for the others.
    assert len([step for step in failed if step.op == "Contribute"]) == CLIENTS // 2 + 1
    assert "UpdateOutOfRange" in str(caught.value) or "holds nan" in str(caught.value)
    np.testing.assert_array_equal(running.params()["w"], 0.0)


@pytest.mark.parametrize("rule", ["fedavg", "fedopt", "median"])
def test_one_client_is_a_cohort(federation, rule):
    running = federation(rule, clients=1)

    assert running.run()["round"]["count"] == 1
    np.testing.assert_array_equal(running.params()["w"], 1.0)


@pytest.mark.parametrize(
    ("rule", "clients", "settings", "told"),
    [
        ("trimmed-mean", 1, {}, "1 updates cannot be trimmed by 1"),
        ("krum", 1, {}, "1 updates are too few for attackers=1"),
        ("trimmed-mean", 6, {"trim": 3}, "6 updates cannot be trimmed by 3"),
        ("krum", 6, {"attackers": 2}, "6 updates are too few for attackers=2"),
        ("krum", 6, {"attackers": 1, "select": 6}, "attackers=1 and select=6"),
    ],
)
def test_more_attackers_than_a_cohort_can_carry(federation, rule, clients, settings, told):
    running = federation(rule, clients=clients, **settings)

    with pytest.raises(FrameFailed) as caught:
        running.run()

    assert told in str(caught.value)
    assert "at least" in str(caught.value)
    np.testing.assert_array_equal(running.params()["w"], 0.0)


@pytest.mark.parametrize("rule", RULES)
def test_envelopes_that_come_twice_are_counted_once(artifact, rule):
    world = Scenario(peers={"client": CLIENTS}, rounds=2, links=Link("10ms", duplicate=1.0))

    result = Simulation(artifact(rule), world).run()

    assert [one.outputs["round"].last["count"] for one in result.rounds] == [CLIENTS] * 2
    assert all(one.refused["duplicate"] or one.refused["late"] for one in result.rounds)


@pytest.mark.parametrize("rule", RULES)
def test_report_of_a_simulation_names_the_peer(artifact, rule):
    config = {"client.model": lambda index: {"wrong": "nan" if index == BAD else ""}}
    world = Scenario(peers={"client": CLIENTS}, rounds=2)

    result = Simulation(artifact(rule), world, config=config).run()

    assert [one["failures"] for one in result.to_dict()["rounds"]] == [{"UpdateOutOfRange": 1}] * 2
    assert [one["failed_on"] for one in result.to_dict()["rounds"]] == [{f"client[{BAD}]": 1}] * 2
