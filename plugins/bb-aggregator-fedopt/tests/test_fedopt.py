import math
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bb_aggregator_fedopt import bb_component
from bb_aggregator_fedopt._fedopt import FedOpt, FedOptConfig
from bb_aggregator_fedopt._rules import DEFAULTS, RULES, Optimizer
from bb_aggregator_fedopt.errors import InvalidSetting, StateMismatch, StepOutOfRange
from bb_ir.params import ParameterSet
from bb_roles import State
from bb_roles.config import build_config
from bb_roles.errors import ConfigError
from bb_roles.folding import WeightedMean
from bb_roles.folding.errors import (
    GridTooCoarse,
    MetricsError,
    NothingContributed,
    UpdateMismatch,
    UpdateOutOfRange,
)
from bb_roles.registry import component_class
from bb_testing.context import FakeContext, environment

CTX = FakeContext()
EACH_RULE = pytest.mark.parametrize("rule", RULES)


def make(rule="adam", **config):
    return FedOpt(FedOptConfig(rule=rule, **config), environment("aggregator"))


def params(*values, dtype="float32"):
    return ParameterSet.from_tensors({"w": np.array(values, dtype)})


def round_of(aggregator, *updates, ctx=CTX):
    """Give all updates, each a set or its values, with or without a weight, and aggregate."""
    for update in updates:
        values, weight = update if isinstance(update, tuple) else (update, 1)
        given_ = values if isinstance(values, ParameterSet) else params(*np.atleast_1d(values))
        aggregator.contribute(ctx, given_, {"examples": weight})
    return aggregator.aggregate(ctx)[0]


def bits(state):
    return {name: array.tobytes() for name, array in state.tensors.items()}, dict(state.data)


class OnPaper:
    """The algorithms as the papers print them, in Python's floats, one parameter at a time.

    Reddi et al. 2021, algorithm 2, with v_{-1} = tau**2; Hsu et al. 2019 for FedAvgM, where the
    difference has the other sign, with a learning rate of the server as the former have it.
    """

    def __init__(self, rule, x, *, lr, beta1=0.0, beta2=0.0, tau=0.0, momentum=0.0):
        self.rule, self.x = rule, x
        self.lr, self.beta1, self.beta2, self.tau, self.momentum = lr, beta1, beta2, tau, momentum
        self.m, self.v = 0.0, tau**2

    def round(self, updates):
        whole = sum(weight for _, weight in updates)
        delta = sum(weight * (xi - self.x) for xi, weight in updates) / whole
        if self.rule == "avgm":
            self.v = self.momentum * self.v - delta
            self.x = self.x - self.lr * self.v
            return self.x
        self.m = self.beta1 * self.m + (1 - self.beta1) * delta
        if self.rule == "adagrad":
            self.v = self.v + delta**2
        elif self.rule == "yogi":
            sign = math.copysign(1.0, self.v - delta**2) if self.v != delta**2 else 0.0
            self.v = self.v - (1 - self.beta2) * delta**2 * sign
        else:
            self.v = self.beta2 * self.v + (1 - self.beta2) * delta**2
        self.x = self.x + self.lr * self.m / (math.sqrt(self.v) + self.tau)
        return self.x


# ---- the rules

#: Multiples of 1/64 with weights that add up to 4: folded without any rounding.
exact = st.integers(-512, 512).map(lambda n: n / 64)
exact_round = st.tuples(exact, exact, exact).map(lambda xs: list(zip(xs, (1, 1, 2), strict=True)))
decays = st.floats(0.0, 0.999)
SETTINGS = {
    "lr": st.floats(0.01, 2.0),
    "beta1": decays,
    "beta2": decays,
    "momentum": decays,
    "tau": st.floats(1e-9, 1.0),
}


@EACH_RULE
@given(st.data())
def test_one_step_is_the_papers_formula(rule, data):
    settings = {name: data.draw(SETTINGS[name]) for name in DEFAULTS[rule]}
    start = data.draw(exact)
    updates = data.draw(exact_round)
    aggregator = make(rule, value_max=1 << 12, cohort=4, weight_max=2, **settings)
    paper = OnPaper(rule, start, **settings)

    first = round_of(aggregator, params(start, dtype="float64"))
    second = round_of(aggregator, *((params(x, dtype="float64"), w) for x, w in updates))

    assert first["w"].tolist() == [start]
    expected = paper.round(updates)
    step = abs(expected - start)
    assert abs(second["w"][0] - expected) <= 1e-6 * min(step, abs(expected)) + 1e-13
    saved = aggregator.save().tensors
    moments = [-paper.v] if rule == "avgm" else [paper.m, paper.v]
    found = [saved[name][0] for name in sorted(saved) if name.endswith(".float64")]
    assert np.allclose(found, moments, rtol=1e-12, atol=0.0)


@EACH_RULE
def test_many_rounds_of_defaults_stay_at_the_papers_formula(rule):
    rng = np.random.default_rng(3)
    rounds = [[(x / 64, w) for x, w in zip(rng.integers(-99, 99, 3), (1, 1, 2), strict=True)]]
    rounds += [[(x + 1 / 64, w) for x, w in one] for one in rounds * 5]
    aggregator = make(rule)
    paper = OnPaper(rule, 0.5, **DEFAULTS[rule])
    round_of(aggregator, params(0.5, dtype="float64"))
    for updates in rounds:
        found = round_of(aggregator, *((params(x, dtype="float64"), w) for x, w in updates))
        assert found["w"][0] == pytest.approx(paper.round(updates), rel=1e-12)


@EACH_RULE
@given(
    start=st.floats(-8, 8, width=32),
    updates=st.lists(
        st.tuples(st.floats(-8, 8, width=32), st.integers(1, 1000)), min_size=1, max_size=5
    ),
)
def test_a_step_of_float32_is_as_near_as_the_fold_allows(rule, start, updates):
    aggregator, paper = make(rule), OnPaper(rule, start, **DEFAULTS[rule])
    round_of(aggregator, start)
    found = float(round_of(aggregator, *updates)["w"][0])
    # The grid and float32 bound the error of the mean; no rule's step is steeper than this in it.
    of_mean = 2.0**-27 + 8 * 2.0**-24
    steepest = {"avgm": 1.0, "adagrad": 0.1 / 2e-3}.get(rule, 0.1 * 0.1 / 1e-3 * 2)
    expected = paper.round(updates)
    assert abs(found - expected) <= of_mean * max(1.0, steepest) + abs(expected) * 2.0**-24


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("avgm", 2.0 + 0.5 * 1.0),
        ("adagrad", 1.0 + 0.5 / (math.sqrt(1.0 + 0.25) + 0.5)),
        ("yogi", 1.0 + 0.5 * 0.25 / (math.sqrt(0.25 + 0.5) + 0.5)),
        ("adam", 1.0 + 0.5 * 0.25 / (math.sqrt(0.5 * 0.25 + 0.5) + 0.5)),
    ],
)
def test_a_step_by_hand(rule, expected):
    settings = {
        "avgm": {"momentum": 0.5, "lr": 1.5},
        "adagrad": {"lr": 0.5, "tau": 0.5},
    }.get(rule, {"lr": 0.5, "beta1": 0.75, "beta2": 0.5, "tau": 0.5})
    aggregator = make(rule, **settings)
    round_of(aggregator, params(1.0, dtype="float64"))
    found = round_of(aggregator, params(2.0, dtype="float64"))
    assert found["w"][0] == pytest.approx(expected, rel=1e-15)


def test_avgm_without_momentum_is_the_mean():
    aggregator = make("avgm", momentum=0.0)
    plain = WeightedMean(WeightedMean.Config(), environment("aggregator"))
    for seed in range(4):
        values = np.random.default_rng(seed).uniform(-9, 9, (3, 50)).astype(np.float32)
        sent = [(params(*one), weight) for one, weight in zip(values, (3, 5, 11), strict=True)]
        assert round_of(aggregator, *sent) == round_of(plain, *sent)


@EACH_RULE
def test_clients_that_do_not_move_leave_all_as_it_is(rule):
    aggregator = make(rule)
    start = round_of(aggregator, [0.1, -3.7, 0.0], [0.3, 2.9, 0.0])
    for _ in range(3):
        assert round_of(aggregator, start, start, start) == start


@EACH_RULE
def test_the_server_walks_to_where_clients_want_to_be(rule):
    aggregator, at = make(rule), np.float32(0.0)
    goal = np.float32(3.0)
    round_of(aggregator, at)
    for _ in range(300):
        at = round_of(aggregator, at + (goal - at) / 8)["w"][0]
    assert abs(at - goal) < 1.0  # of 3; FedAdagrad slows down


def test_beginning_second_moment_is_the_square_of_tau():
    moments = Optimizer("adam", {"tau": 0.25}).start(2)
    assert moments.second.tolist() == [0.0625, 0.0625]
    assert moments.first.tolist() == [0.0, 0.0]
    assert Optimizer("avgm", {}).start(2).second is None


# ---- order


@EACH_RULE
@given(
    rounds=st.lists(
        st.lists(st.tuples(st.floats(-9, 9, width=32), st.integers(1, 9)), min_size=2, max_size=5),
        min_size=2,
        max_size=4,
    ),
    random=st.randoms(),
)
def test_order_of_arrival_does_not_matter_over_rounds(rule, rounds, random):
    one, other = make(rule), make(rule)
    for updates in rounds:
        shuffled = list(updates)
        random.shuffle(shuffled)
        assert round_of(one, *updates) == round_of(other, *shuffled)
    assert bits(one.save()) == bits(other.save())


def test_large_models_are_stepped_like_small_ones():
    rng = np.random.default_rng(0)
    rounds = rng.uniform(-5, 5, (3, 2, 70_000)).astype(np.float32)
    whole, first, last = make(), make(), make()
    for updates in rounds:
        found = round_of(whole, *(params(*one) for one in updates))["w"]
        head = round_of(first, *(params(*one[:100]) for one in updates))["w"]
        tail = round_of(last, *(params(*one[-100:]) for one in updates))["w"]
        assert found[:100].tobytes() == head.tobytes()
        assert found[-100:].tobytes() == tail.tobytes()


# ---- rounds


def test_the_first_round_gives_its_mean():
    assert round_of(make(), (1.0, 1), (4.0, 2))["w"].tolist() == [3.0]


@EACH_RULE
def test_a_round_that_fails_changes_nothing(rule):
    aggregator, untouched = make(rule), make(rule)
    for one in (aggregator, untouched):
        round_of(one, 1.0)
        round_of(one, 1.5)
    before = bits(aggregator.save())

    aggregator.contribute(FakeContext(round=7), params(9.0), {"examples": 1})
    aggregator.abandon(FakeContext(round=7))
    with pytest.raises(NothingContributed):
        aggregator.aggregate(FakeContext(round=7))
    with pytest.raises(UpdateOutOfRange):
        aggregator.contribute(CTX, params(np.nan), {"examples": 1})
    with pytest.raises(MetricsError):
        aggregator.contribute(CTX, params(1.0), {"examples": 0})
    aggregator.abandon(CTX)

    assert bits(aggregator.save()) == before
    assert round_of(aggregator, 2.0) == round_of(untouched, 2.0)


def test_abandon_after_a_finished_round_keeps_its_step():
    aggregator, other = make(), make()
    for value in (1.0, 2.0, 3.0):
        expected = round_of(other, value)
        assert round_of(aggregator, value) == expected
        aggregator.abandon(CTX)  # as the engine does at the end of every round


def test_a_direction_is_measured_from_what_was_returned_whether_taken_or_not():
    aggregator = make("avgm", momentum=0.5)
    round_of(aggregator, 1.0)
    assert round_of(aggregator, 2.0)["w"].tolist() == [2.0]
    aggregator.abandon(CTX)  # the round failed after it, and clients begin from 1 again
    assert round_of(aggregator, 1.0)["w"].tolist() == [2.0 + 0.5 * 1.0 + (1.0 - 2.0)]


def test_rounds_that_overlap_do_not_undo_each_other():
    aggregator = make("avgm", momentum=0.0)
    early, late = FakeContext(round="early"), FakeContext(round="late")
    round_of(aggregator, 1.0)
    aggregator.contribute(early, params(2.0), {"examples": 1})
    aggregator.contribute(late, params(4.0), {"examples": 1})
    assert aggregator.aggregate(late)[0]["w"].tolist() == [4.0]
    assert aggregator.aggregate(early)[0]["w"].tolist() == [5.0]  # both went away from 1


def test_first_rounds_that_overlap_give_their_means():
    aggregator = make()
    one, other = FakeContext(round=1), FakeContext(round=2)
    aggregator.contribute(one, params(2.0), {"examples": 1})
    aggregator.contribute(other, params(4.0), {"examples": 1})
    assert aggregator.aggregate(other)[0]["w"].tolist() == [4.0]
    assert aggregator.aggregate(one)[0]["w"].tolist() == [2.0]


@pytest.mark.parametrize("begun", [False, True])
def test_an_update_of_another_model_is_refused(begun):
    aggregator = make()
    if begun:
        round_of(aggregator, 1.0)
    else:
        aggregator.contribute(CTX, params(1.0), {"examples": 1})
    with pytest.raises(UpdateMismatch, match=r"float32\[2\]"):
        aggregator.contribute(FakeContext(round=2), params(1.0, 2.0), {"examples": 1})
    with pytest.raises(UpdateMismatch, match="float64"):
        aggregator.contribute(CTX, params(1.0, dtype="float64"), {"examples": 1})
    aggregator.abandon(CTX)
    assert round_of(aggregator, 1.0)["w"].tolist() == [1.0]


def test_a_step_beyond_the_bound_is_refused_and_leaves_no_trace():
    aggregator, untouched = make("avgm", lr=100.0), make("avgm", lr=100.0)
    for one in (aggregator, untouched):
        round_of(one, [0.0, 1.0])
    before = bits(aggregator.save())
    with pytest.raises(StepOutOfRange, match=r"(?s)'w' to 1101.*1024"):
        round_of(aggregator, [0.0, 12.0])
    assert bits(aggregator.save()) == before
    assert round_of(aggregator, [0.5, 1.0]) == round_of(untouched, [0.5, 1.0])


@pytest.mark.parametrize("rule", ["avgm", "adam"])
def test_a_step_that_is_not_finite_is_refused(rule):
    aggregator = make(rule, lr=1e150)
    round_of(aggregator, 0.0)
    with pytest.raises(StepOutOfRange, match="inf"):
        round_of(aggregator, 1000.0)
    assert round_of(aggregator, 0.0)["w"].tolist() == [0.0]


# ---- dtypes


def test_integers_and_bools_get_the_mean_and_floats_the_step():
    def one(x):
        return ParameterSet.from_tensors(
            {
                "d": np.array([x], np.float64),
                "f": np.array([x], np.float32),
                "h": np.array([x], np.float16),
                "b": np.array([x], ml_dtypes.bfloat16),
                "i": np.array([x], np.int64),
                "flag": np.array([x > 2]),
                "none": np.zeros((0, 3), np.float32),
            }
        )

    aggregator = make("avgm", lr=0.5)
    round_of(aggregator, one(1))
    found = round_of(aggregator, one(3))
    for name in "dfhb":
        assert found[name].astype(float).tolist() == [2.0], name
    assert found["i"].tolist() == [3]
    assert found["flag"].tolist() == [True]
    assert found["none"].shape == (0, 3)
    floats = ["bfloat16", "float16", "float32", "float64"]
    assert sorted(aggregator.save().data["moments"]) == floats


def test_sets_without_parameters_are_stepped():
    aggregator, empty = make(), ParameterSet.from_tensors({})
    assert round_of(aggregator, empty) == empty
    assert round_of(aggregator, empty, empty) == empty


# ---- state


@EACH_RULE
@given(
    rounds=st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=4),
    cut=st.integers(0, 4),
)
def test_state_goes_on_elsewhere_bit_for_bit(rule, rounds, cut):
    whole, first, second = make(rule), make(rule), make(rule)
    for value in rounds[:cut]:
        round_of(whole, value)
        round_of(first, value)
    for one in (whole, first):
        one.contribute(FakeContext(round=5), params(0.5), {"examples": 3})
    state = first.save()
    second.load(state)
    for array in state.tensors.values():
        array.fill(0xFF if array.dtype == np.uint8 else -1)

    assert bits(second.save()) == bits(whole.save())
    assert whole.aggregate(FakeContext(round=5)) == second.aggregate(FakeContext(round=5))
    for value in rounds[cut:]:
        assert round_of(whole, value) == round_of(second, value)
    assert bits(second.save()) == bits(whole.save())


def test_rounds_that_overlap_survive_being_saved():
    contexts = [FakeContext(round=f"round {at}") for at in range(4)]

    def begun():
        aggregator = make()
        aggregator.contribute(contexts[0], params(7.0), {"examples": 1})  # before there is a global
        round_of(aggregator, 1.0)
        for ctx, value in zip(contexts[1:], (2.0, 3.0, 4.0), strict=True):
            aggregator.contribute(ctx, params(value), {"examples": 1})
            round_of(aggregator, value / 2)
        return aggregator

    straight, saved = begun(), make()
    saved.load(begun().save())
    for ctx in reversed(contexts):
        assert saved.aggregate(ctx) == straight.aggregate(ctx)
    assert bits(saved.save()) == bits(straight.save())


def test_saved_state_does_not_follow_later_rounds():
    aggregator = make()
    round_of(aggregator, 1.0)
    round_of(aggregator, 2.0)
    state = aggregator.save()
    before = bits(state)
    round_of(aggregator, 3.0)
    assert bits(state) == before


def test_loading_replaces_what_was_there():
    aggregator = make()
    round_of(aggregator, 1.0)
    round_of(aggregator, 2.0)
    aggregator.load(State())
    assert bits(aggregator.save()) == bits(make().save())
    assert round_of(aggregator, [5.0, 6.0])["w"].tolist() == [5.0, 6.0]


def test_the_state_of_another_rule_is_not_loaded():
    aggregator, other = make("yogi"), make("adam")
    round_of(other, 1.0)
    before = bits(other.save())
    with pytest.raises(StateMismatch, match="'yogi'"):
        other.load(aggregator.save())
    assert bits(other.save()) == before


def test_a_closed_aggregator_holds_nothing():
    aggregator = make()
    for value in (1.0, 2.0):
        round_of(aggregator, value)
    aggregator.contribute(CTX, params(1.0), {"examples": 1})
    aggregator.close()
    assert aggregator.save().tensors == {}


# ---- the configuration


@EACH_RULE
def test_defaults_are_those_of_the_rule(rule):
    optimizer = FedOptConfig(rule=rule).optimizer()
    assert optimizer.settings == DEFAULTS[rule]
    given_ = FedOptConfig(rule=rule, **DEFAULTS[rule]).optimizer()
    assert given_.settings == optimizer.settings


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"rule": "sgd"}, "'sgd'"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"lr": -0.1}, "lr is -0.1"),
        ({"lr": math.nan}, "lr is nan"),
        ({"lr": math.inf}, "lr is inf"),
        ({"tau": 0.0}, "tau is 0.0"),
        ({"tau": 1e-200}, "tau is 1e-200"),
        ({"beta1": 1.0}, "beta1 is 1.0"),
        ({"beta1": -0.1}, "beta1 is -0.1"),
        ({"beta2": math.nan}, "beta2 is nan"),
        ({"momentum": 0.9}, "'adam' has no momentum"),
        ({"rule": "avgm", "momentum": 1.0}, "momentum is 1.0"),
        ({"rule": "avgm", "tau": 0.1}, "'avgm' has no tau"),
        ({"rule": "adagrad", "beta2": 0.9}, "'adagrad' has no beta2"),
    ],
)
def test_settings_out_of_range_are_refused(config, said):
    with pytest.raises(InvalidSetting, match=said) as caught:
        FedOptConfig(**config)
    assert caught.value.expected
    assert caught.value.fix
    assert caught.value.where


def test_the_configuration_is_checked_by_the_contract():
    config = build_config(FedOpt.Config, {"rule": "yogi", "lr": 1, "cohort": 8}, "aggregator")
    assert config == FedOptConfig(rule="yogi", lr=1.0, cohort=8)
    with pytest.raises(ConfigError, match="has no momentum"):
        build_config(FedOpt.Config, {"momentum": 0.5}, "aggregator")
    with pytest.raises(ConfigError, match="'sgdm'"):
        build_config(FedOpt.Config, {"rule": "sgdm"}, "aggregator")
    with pytest.raises(GridTooCoarse):
        make(cohort=0)


def test_every_rule_has_defaults():
    assert set(RULES) == set(DEFAULTS)


# ---- the plugin


def test_the_plugin_declares_the_class_and_imports_nothing_heavy():
    assert component_class(bb_component()) is FedOpt
    code = "import sys, bb_aggregator_fedopt; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
