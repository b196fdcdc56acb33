"""The suite of rules that build on `bb_roles.collecting` fails where one does something else.

It runs over a good rule and many that are broken in one way each. The good one passes; a broken one
fails the test that is named beside it; and every test is named at least once.
"""

import textwrap

import pytest

from bb_testing.aggregator import AggregatorSuite
from bb_testing.collecting import CollectingAggregatorSuite

HEAD = '''
import dataclasses
import math
import random
from dataclasses import dataclass

import numpy as np

from bb_ir.params import ParameterSet
from bb_roles import State
from bb_roles.collecting import Combined, RoundsAggregator, RoundsConfig
from bb_roles.folding.errors import MetricsError, UpdateMismatch, UpdateOutOfRange
from bb_testing.collecting import CollectingAggregatorSuite
from bb_testing.context import FakeContext, environment


class Good(RoundsAggregator):
    """The largest value of each parameter."""

    Config = RoundsConfig

    def _combine(self, updates):
        draft = updates[0].params.writable()
        for dtype in updates[0].params.dtypes:
            draft.flat(dtype)[:] = np.max([u.params.flat(dtype) for u in updates], axis=0)
        return Combined(draft.freeze(), updates, {})

    def _check_enough(self, count, place):
        pass


class TestGood(CollectingAggregatorSuite):
    def build(self, **config):
        return Good(Good.Config(**config), environment("aggregator"))
'''

#: A `contribute` that catches what is refused, to say it otherwise.
CAUGHT = """
        class Broken(Good):
            def contribute(self, ctx, params, metrics):
                try:
                    super().contribute(ctx, params, metrics)
                except ERROR:
                    raise OTHER from None
        """

BROKEN = {
    "test_value_that_is_not_finite_is_named": CAUGHT.replace("ERROR", "UpdateOutOfRange").replace(
        "OTHER", "UpdateOutOfRange('a tensor holds nan')"
    ),
    "test_update_of_another_layout_is_described": CAUGHT.replace("ERROR", "UpdateMismatch").replace(
        "OTHER", "UpdateMismatch(f'{ctx.sender} sent another model')"
    ),
    "test_image_whose_dtypes_are_scattered_is_refused": """
        class Broken(Good):
            def contribute(self, ctx, params, metrics):
                super().contribute(ctx, ParameterSet.from_tensors(dict(params.items())), metrics)
        """,
    "test_number_of_examples_that_is_none_is_named": CAUGHT.replace(
        "ERROR", "MetricsError"
    ).replace("OTHER", "MetricsError(f'{ctx.sender} sent no examples')"),
    "test_too_many_metrics_are_refused": """
        class Broken(Good):
            def contribute(self, ctx, params, metrics):
                super().contribute(ctx, params, dict(list(metrics.items())[:64]))
        """,
    "test_more_updates_than_the_cohort_are_refused": """
        class Broken(Good):
            def __init__(self, config, env):
                super().__init__(dataclasses.replace(config, cohort=9999), env)
        """,
    "test_update_of_nobody_is_this_nodes": CAUGHT.replace("ERROR", "UpdateOutOfRange").replace(
        "OTHER", "UpdateOutOfRange(f\"tensor 'w' of {ctx.sender}\")"
    ),
    "test_empty_round_has_no_result": """
        class Broken(Good):
            def aggregate(self, ctx):
                if ctx.round not in self._rounds:
                    raise ValueError("nothing")
                return super().aggregate(ctx)
        """,
    "test_setting_out_of_its_range_is_refused": """
        @dataclass(frozen=True)
        class Lax(RoundsConfig):
            def __post_init__(self):
                pass

        class Broken(Good):
            Config = Lax
        """,
    "test_metrics_are_averaged_in_the_order_of_their_names": """
        class Broken(Good):
            own_metrics = ("count", "examples", "z")
        """,
    "test_metrics_are_averaged_in_the_order_of_their_names ": """
        class Broken(Good):
            def _combine(self, updates):
                return super()._combine(updates)._replace(more={"largest": 1})
        """,
    "test_summary_does_not_depend_on_the_order": """
        class Broken(Good):
            def _combine(self, updates):
                return super()._combine(updates)._replace(measured=updates[:1])
        """,
    "test_type_of_the_summary_follows_from_that_of_the_metrics": """
        class Broken(Good):
            @classmethod
            def infer_types(cls, config, op, inputs):
                return None
        """,
    "test_large_round_is_deferred_and_gives_the_same": """
        class Broken(Good):
            def aggregate(self, ctx):
                ctx.keeps = False
                return super().aggregate(ctx)
        """,
    "test_at_the_limit_nothing_is_deferred": """
        class Broken(Good):
            def __init__(self, config, env):
                most = config.defer_above
                super().__init__(dataclasses.replace(config, defer_above=most and most - 1), env)
        """,
    "test_rounds_with_plain_keys_are_saved_and_loaded": """
        class Broken(Good):
            def load(self, state):
                super().load(state)
                self._rounds = {str(key): updates for key, updates in self._rounds.items()}
        """,
    "test_round_with_another_key_cannot_be_saved": """
        class Broken(Good):
            def save(self):
                held, self._rounds = self._rounds, {repr(k): v for k, v in self._rounds.items()}
                state, self._rounds = super().save(), held
                return state
        """,
    "test_round_that_is_named_as_the_engine_names_frames_is_saved": """
        class Broken(Good):
            def save(self):
                assert not any(hasattr(key, "_fields") for key in self._rounds)
                return super().save()
        """,
    "test_what_is_loaded_is_not_the_memory_that_was_given": """
        class Broken(Good):
            def load(self, state):
                super().load(state)
                for at, updates in enumerate(self._rounds.values()):
                    for place, update in enumerate(updates):
                        image = state.tensors[f"{at}.{place}"]
                        updates[place] = update._replace(params=ParameterSet.from_image(image))
        """,
    "test_loading_replaces_what_was_there": """
        class Broken(Good):
            def load(self, state):
                held = self._rounds
                super().load(state)
                self._rounds = {**held, **self._rounds}
        """,
    "test_closed_aggregator_holds_nothing": """
        class Broken(Good):
            def close(self):
                pass
        """,
    "test_updates_are_kept_and_not_copied": """
        class Broken(Good):
            def contribute(self, ctx, params, metrics):
                super().contribute(ctx, ParameterSet.from_image(params.to_bytes()), metrics)
        """,
}


def own_tests():
    return {name for name in vars(CollectingAggregatorSuite) if name.startswith("test_")}


def source():
    parts = [HEAD]
    for at, body in enumerate(BROKEN.values()):
        parts.append(textwrap.dedent(body).replace("Broken", f"Broken{at}"))
        parts.append(
            f"class Test{at}(CollectingAggregatorSuite):\n"
            "    def build(self, **config):\n"
            f"        cls = Broken{at}\n"
            "        return cls(cls.Config(**config), environment('aggregator'))\n"
        )
    return "\n\n".join(parts)


@pytest.fixture(scope="module")
def outcomes(outcomes_of):
    return outcomes_of({"test_bites.py": source()}, "-k", " or ".join(own_tests()))


def test_every_test_bites():
    assert {name.strip() for name in BROKEN} == own_tests()


def test_a_good_rule_passes(outcomes):
    assert outcomes["TestGood"] == {"PASSED": own_tests()}, outcomes["said"]


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_fails(outcomes, name):
    at = list(BROKEN).index(name)

    assert name.strip() in outcomes[f"Test{at}"].get("FAILED", set()), BROKEN[name]


def test_the_suite_has_all_tests_of_aggregators():
    assert issubclass(CollectingAggregatorSuite, AggregatorSuite)
