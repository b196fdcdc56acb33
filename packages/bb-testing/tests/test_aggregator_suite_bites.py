"""The suite passes a right aggregator and fails every wrong one, on the test that is meant."""

import re

import pytest

from bb_testing._life import LivingSuite
from bb_testing.aggregator import AggregatorSuite

# All suites run in one process of their own, and hypothesis does not shrink what it finds there.
# This is loaded before any suite, because a suite keeps the profile that it was imported under.
PROFILE = """
from hypothesis import Phase, settings

settings.register_profile(
    "bites", max_examples=10, phases=[Phase.explicit, Phase.generate], derandomize=True
)
settings.load_profile("bites")
"""

HEAD = """
import math
from fractions import Fraction
import numpy as np
import pytest
from bb_ir.params import ParameterSet
from bb_ir.types import record, scalar
from bb_roles import Aggregator, State
from bb_roles.contracts import NoConfig
from bb_testing.aggregator import AggregatorSuite
from bb_testing.context import environment


class Median(Aggregator):
    # Right in every respect, and slow.
    def __init__(self, config, env):
        super().__init__(config, env)
        self.rounds = {}

    def check(self, known, params, metrics):
        examples = metrics.get("examples")
        if not isinstance(examples, int) or examples < 1:
            raise ValueError("no examples")
        if known and known[0][0].layout != params.layout:
            raise ValueError("other layout")
        if not all(array.dtype == np.float32 for _, array in params.items()):
            raise ValueError("not float32")
        if not all(np.isfinite(array).all() for _, array in params.items()):
            raise ValueError("not finite")

    def contribute(self, ctx, params, metrics):
        known = self.rounds.get(ctx.round, [])
        try:
            self.check(known, params, metrics)
        except ValueError as error:
            raise ValueError(f"{ctx.sender} sent what does not fit: {error}") from error
        self.rounds[ctx.round] = [*known, (params, metrics["examples"])]

    def combine(self, updates):
        if not updates[0][0].dtypes:
            return updates[0][0]
        draft = updates[0][0].writable()
        draft.flat()[:] = np.median([params.flat() for params, _ in updates], axis=0)
        return draft.freeze()

    def summary(self, updates):
        return {"count": len(updates), "examples": sum(n for _, n in updates)}

    def aggregate(self, ctx):
        if ctx.round not in self.rounds:
            raise ValueError("nothing was contributed")
        updates = self.rounds.pop(ctx.round)
        return self.combine(updates), self.summary(updates)

    def abandon(self, ctx):
        self.rounds.pop(ctx.round, None)

    def save(self):
        tensors, rounds = {}, []
        for at, (key, updates) in enumerate(self.rounds.items()):
            for i, (params, _) in enumerate(updates):
                tensors[f"{at}.{i}"] = np.frombuffer(params.image, np.uint8)
            rounds.append({"key": key, "examples": [n for _, n in updates]})
        return State(tensors=tensors, data={"rounds": rounds})

    def load(self, state):
        self.rounds = {
            saved["key"]: [
                (ParameterSet.from_image(state.tensors[f"{at}.{i}"].tobytes()), n)
                for i, n in enumerate(saved["examples"])
            ]
            for at, saved in enumerate(state.data["rounds"])
        }
"""

BROKEN = {
    "floats are summed in the order of arrival": (
        """
    def combine(self, updates):
        total = np.zeros(updates[0][0].flat().size, np.float64)
        for params, examples in updates:
            total += params.flat().astype(np.float64) * examples
        draft = updates[0][0].writable()
        draft.flat()[:] = total / sum(n for _, n in updates)
        return draft.freeze()
""",
        ["order_does_not_matter_when_large_values_cancel"],
    ),
    "the last one wins": (
        """
    def combine(self, updates):
        draft = updates[-1][0].writable(copy=True)
        return draft.freeze()
""",
        ["order_of_arrival_does_not_matter"],
    ),
    "the result is flat": (
        """
    def combine(self, updates):
        return ParameterSet.from_tensors({"all": super().combine(updates).flat()})
""",
        ["result_has_the_layout_of_the_updates"],
    ),
    "the result is doubled": (
        """
    def combine(self, updates):
        tensors = {n: a.astype(np.float64) for n, a in super().combine(updates).items()}
        return ParameterSet.from_tensors(tensors)
""",
        ["result_has_the_layout_of_the_updates"],
    ),
    "the result is not finite": (
        """
    def combine(self, updates):
        draft = super().combine(updates).writable(copy=True)
        draft["bias"][0] = np.inf
        return draft.freeze()
""",
        ["result_has_the_layout_of_the_updates"],
    ),
    "the count is that of tensors": (
        """
    def summary(self, updates):
        return {"count": len(updates[0][0]), "examples": sum(n for _, n in updates)}
""",
        ["count_and_examples_are_right"],
    ),
    "examples are not counted": (
        """
    def summary(self, updates):
        return {"count": len(updates)}
""",
        ["count_and_examples_are_right"],
    ),
    "rounds mix": (
        """
    def contribute(self, ctx, params, metrics):
        ctx.round = 1
        super().contribute(ctx, params, metrics)

    def aggregate(self, ctx):
        ctx.round = 1
        return super().aggregate(ctx)
""",
        ["rounds_do_not_mix", "abandon_leaves_other_rounds_alone"],
    ),
    "nothing is checked": (
        """
    def check(self, known, params, metrics):
        pass
""",
        ["rejected_update_leaves_no_trace"],
    ),
    "the layout is not checked": (
        """
    def check(self, known, params, metrics):
        super().check([], params, metrics)
""",
        ["rejected_update_leaves_no_trace"],
    ),
    "examples are guessed": (
        """
    def contribute(self, ctx, params, metrics):
        super().contribute(ctx, params, {"examples": 1, **metrics})
""",
        ["rejected_update_leaves_no_trace"],
    ),
    "a refused update is counted": (
        """
    def contribute(self, ctx, params, metrics):
        known = self.rounds.setdefault(ctx.round, [])
        known.append((params, metrics.get("examples", 0)))
        self.check(known[:-1], params, metrics)
""",
        ["rejected_update_leaves_no_trace"],
    ),
    "a refused update opens the round": (
        """
    layout = None

    def check(self, known, params, metrics):
        self.layout = self.layout or params.layout
        if self.layout != params.layout:
            raise ValueError("other layout")
        super().check(known, params, metrics)
""",
        ["rejected_update_leaves_no_trace"],
    ),
    "nothing has a mean": (
        """
    def aggregate(self, ctx):
        if ctx.round not in self.rounds:
            return ParameterSet.from_tensors({}), {"count": 0, "examples": 0}
        return super().aggregate(ctx)
""",
        ["aggregate_without_contributions_is_an_error", "aggregate_ends_the_round"],
    ),
    "rounds never end": (
        """
    def aggregate(self, ctx):
        updates = self.rounds.get(ctx.round)
        if not updates:
            raise ValueError("nothing was contributed")
        return self.combine(updates), self.summary(updates)
""",
        ["aggregate_ends_the_round"],
    ),
    "abandoning does nothing": (
        """
    def abandon(self, ctx):
        pass
""",
        ["abandon_frees_the_round"],
    ),
    "abandoning needs a round": (
        """
    def abandon(self, ctx):
        del self.rounds[ctx.round]
""",
        ["abandon_frees_the_round"],
    ),
    "abandoning drops everything": (
        """
    def abandon(self, ctx):
        self.rounds.clear()
""",
        ["abandon_leaves_other_rounds_alone"],
    ),
    "an update is returned": (
        """
    def combine(self, updates):
        return min((p for p, _ in updates), key=lambda p: p.to_bytes())
""",
        ["result_does_not_alias_the_updates"],
    ),
    "the result's memory is used again": (
        """
    draft = None

    def combine(self, updates):
        self.draft = self.draft or updates[0][0].writable()
        self.draft.flat()[:] = super().combine(updates).flat()
        return self.draft.lend()
""",
        ["result_stays_as_it_was"],
    ),
    "nothing is saved": (
        """
    def save(self):
        return State()

    def load(self, state):
        pass
""",
        ["state_goes_on_elsewhere"],
    ),
    "the summary lacks a mean that it tells": (
        """
    @classmethod
    def infer_types(cls, config, op, inputs):
        means = {name: of for name, of in inputs[-1].items or () if of.kind == "float64"}
        counts = {"count": scalar("int64"), "examples": scalar("int64")}
        return {"summary": record({**counts, **means})} if op == "Aggregate" else None
""",
        ["values_are_of_the_types_that_it_tells"],
    ),
    "a loss is asked for": (
        """
    def check(self, known, params, metrics):
        super().check(known, params, metrics)
        if "loss" not in metrics:
            raise ValueError("no loss")
""",
        ["update_without_other_metrics_counts_by_its_examples"],
    ),
    "the state is an object": (
        """
    def save(self):
        return State(data={"rounds": self.rounds, "set": {1, 2}})

    def load(self, state):
        self.rounds = dict(state.data["rounds"])
""",
        ["state_goes_on_elsewhere", "state_is_tensors_and_plain_data"],
    ),
    "nobody is named": (
        """
    def contribute(self, ctx, params, metrics):
        try:
            super().contribute(ctx, params, metrics)
        except ValueError:
            raise ValueError("somebody sent what does not fit") from None
""",
        ["rejected_update_leaves_no_trace", "examples_are_a_whole_number_from_one_on"],
    ),
    "weights may be negative": (
        """
    def check(self, known, params, metrics):
        super().check(known, params, {**metrics, "examples": abs(metrics.get("examples", 0))})
""",
        ["examples_are_a_whole_number_from_one_on"],
    ),
    "everything becomes float": (
        """
    def contribute(self, ctx, params, metrics):
        floats = {name: np.asarray(array, np.float32) for name, array in params.items()}
        super().contribute(ctx, ParameterSet.from_tensors(floats), metrics)
""",
        ["other_dtypes_are_folded_or_refused"],
    ),
    "something is needed": (
        """
    def combine(self, updates):
        next(iter(updates[0][0].items()))
        return super().combine(updates)
""",
        ["sets_without_tensors_are_folded_or_refused"],
    ),
    "nothing is let go": (
        """
    def __init__(self, config, env):
        super().__init__(config, env)
        self.history = []

    def contribute(self, ctx, params, metrics):
        super().contribute(ctx, params, metrics)
        self.history.append(params)
""",
        ["updates_are_let_go_with_their_round", "memory_does_not_grow"],
    ),
    "the state is shared": (
        """
    def load(self, state):
        super().load(state)
        for updates in self.rounds.values():
            updates.reverse()
            updates.pop()
""",
        ["state_goes_on_elsewhere"],
    ),
}


#: What holds for components of all roles in use, bitten in `test_life_bites`.
LIVING = {name[5:] for name in vars(LivingSuite) if name.startswith("test_")}

REPLACED = {
    "by another test": ("def test_rounds_do_not_mix(self):\n        pass", True),
    "by nothing": ("test_rounds_do_not_mix = None", True),
    "by a bare xfail": (
        "@pytest.mark.xfail\n    def test_rounds_do_not_mix(self):\n        assert 0",
        True,
    ),
    "by a skip": (
        "@pytest.mark.skip\n    def test_rounds_do_not_mix(self):\n        pass",
        True,
    ),
    "by an xfail with its reason": (
        "@pytest.mark.xfail(reason='x')\n    def test_rounds_do_not_mix(self):\n        assert 0",
        False,
    ),
    "not at all": ("def test_of_my_own(self):\n        pass", False),
}

OTHERS = """

class TestMedian(AggregatorSuite):
    def make(self):
        return Median(NoConfig(), environment("aggregator"))


class TestOrdered(TestLastOneWins):
    order_free = False


class TestStreaming(TestMedian):
    # It keeps them all.
    streaming = True


class Choosy(Median):
    def aggregate(self, ctx):
        if len(self.rounds.get(ctx.round, [])) < 4:
            raise ValueError("too few updates")
        return super().aggregate(ctx)


class TestChoosy(AggregatorSuite):
    min_updates = 4

    def make(self):
        return Choosy(NoConfig(), environment("aggregator"))


ONE = Median(NoConfig(), environment("aggregator"))


class TestOneObject(AggregatorSuite):
    def make(self):
        return ONE


class TestNoComponent(AggregatorSuite):
    def make(self):
        return object()
"""


def class_of(fault):
    return "".join(re.findall("[a-z]+", fault.lower().replace("'", "")))


def suite_of(fault):
    return "TestLastOneWins" if fault == "the last one wins" else f"Test_{class_of(fault)}"


def source():
    parts = [HEAD]
    for fault, (body, _) in BROKEN.items():
        parts.append(
            f"\n\nclass {class_of(fault)}(Median):{body}"
            f"\n\nclass {suite_of(fault)}(AggregatorSuite):\n    def make(self):\n"
            f"        return {class_of(fault)}(NoConfig(), environment('aggregator'))\n"
        )
    parts.append(OTHERS)
    for how, (body, _) in REPLACED.items():
        parts.append(f"\n\nclass {suite_of(how)}(TestMedian):\n    {body}\n")
    return "".join(parts)


@pytest.fixture(scope="module")
def outcomes(outcomes_of):
    """Run all suites; the tests by suite and outcome, without `test_` and parameters."""
    # Of what holds for components of all roles, memory is the one to bite here.
    living = [f"test_{name}" for name in LIVING - {"memory_does_not_grow"}]
    found = outcomes_of(
        {"bites_profile.py": PROFILE, "test_bites.py": source()},
        *("-p", "bites_profile", "--tb=no"),
        *("-k", f"TestMedian or not ({' or '.join(living)})"),
    )
    said = found.pop("said")
    short = {
        suite: {outcome: {name[5:] for name in names} for outcome, names in by_outcome.items()}
        for suite, by_outcome in found.items()
    }
    skipped = re.findall(r"^SKIPPED \[(\d+)\].*order_free", said, re.MULTILINE)
    return {**short, "skipped": skipped}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_wrong_aggregator_fails(outcomes, fault):
    assert set(BROKEN[fault][1]) <= outcomes[suite_of(fault)].get("FAILED", set())


def test_a_right_aggregator_passes(outcomes):
    assert set(outcomes["TestMedian"]) == {"PASSED"}
    others = {
        "memory_does_not_grow_with_the_updates",
        "too_few_updates_are_an_error_that_says_how_many",
    }
    assert outcomes["TestMedian"]["PASSED"] == all_tests() - others


def test_every_test_of_the_suite_bites_something():
    bitten = {name for _, expected in BROKEN.values() for name in expected}
    bitten |= {"suite_is_whole", "make_is_a_factory", "is_an_aggregator"}  # see below
    bitten |= {"result_cannot_be_written"}  # a ParameterSet gives out nothing else
    bitten |= {"memory_does_not_grow_with_the_updates"}  # see below
    bitten |= {"too_few_updates_are_an_error_that_says_how_many"}
    bitten |= LIVING
    bitten |= {"ops_of_its_own_keep_to_what_they_declare"}  # in `test_own_ops_bite`
    # What a component may defer is bitten for all roles together.
    bitten |= {
        "deferred_work_gives_what_waiting_for_it_gives",
        "methods_that_defer_are_declared",
        "work_changes_nothing_before_its_commit",
    }
    assert bitten == all_tests()


def test_a_rule_that_keeps_what_it_is_given_is_not_streaming(outcomes):
    assert outcomes["TestStreaming"]["FAILED"] == {"memory_does_not_grow_with_the_updates"}


def test_an_error_of_too_few_updates_says_how_many_are_needed(outcomes):
    assert outcomes["TestChoosy"]["FAILED"] == {"too_few_updates_are_an_error_that_says_how_many"}


def test_a_rule_that_needs_an_order_says_so(outcomes):
    assert set(outcomes["TestOrdered"]) == {"PASSED"}
    assert sum(map(int, outcomes["skipped"])) == 2


@pytest.mark.parametrize("how", REPLACED)
def test_an_inherited_test_is_not_silently_replaced(outcomes, how):
    caught = REPLACED[how][1]
    assert ("suite_is_whole" in outcomes[suite_of(how)].get("FAILED", set())) == caught


def test_the_check_itself_cannot_be_replaced():
    with pytest.raises(TypeError, match="may not override test_suite_is_whole"):
        type("TestMine", (AggregatorSuite,), {"test_suite_is_whole": lambda _: None})


def test_one_object_for_all_tests_is_refused(outcomes):
    assert "make_is_a_factory" in outcomes["TestOneObject"]["FAILED"]


def test_what_is_no_component_is_refused(outcomes):
    assert {"make_is_a_factory", "is_an_aggregator"} <= outcomes["TestNoComponent"]["FAILED"]


def test_a_suite_without_make_says_what_is_missing():
    with pytest.raises(NotImplementedError, match="needs `def make"):
        AggregatorSuite().make()


def all_tests():
    return {name[5:] for name in dir(AggregatorSuite) if name.startswith("test_")}
