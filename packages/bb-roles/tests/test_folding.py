import importlib.util
from dataclasses import dataclass

import numpy as np
import pytest

from bb_ir.params import ParameterSet
from bb_roles.folding import FoldConfig, WeightedMean, differing, first_beyond
from bb_testing.aggregator import AggregatorSuite
from bb_testing.context import FakeContext, environment

ENGINES = ["numpy", *(["numba"] if importlib.util.find_spec("numba") else [])]


@dataclass(frozen=True)
class _DoubledConfig(FoldConfig):
    factor: float = 2.0


class _Doubled(WeightedMean):
    """What an author writes on top of the mean."""

    Config = _DoubledConfig

    def aggregate(self, ctx):
        mean, summary = super().aggregate(ctx)
        draft = mean.writable()
        for dtype in mean.dtypes:
            draft.flat(dtype)[:] = self.config.factor * mean.flat(dtype)
        return draft.freeze(), summary


class TestWeightedMean(AggregatorSuite):
    streaming = True

    def make(self):
        return WeightedMean(FoldConfig(), environment("aggregator"))


class TestOnTopOfTheMean(AggregatorSuite):
    streaming = True

    def make(self):
        return _Doubled(_DoubledConfig(), environment("aggregator"))


def params(*values):
    return ParameterSet.from_tensors({"w": np.array(values, np.float32)})


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_made_of_the_mean_is_all_that_an_author_writes(engine):
    aggregator = _Doubled(_DoubledConfig(engine=engine, factor=3.0), environment("aggregator"))
    for value, examples in ((1.0, 1), (5.0, 3)):
        aggregator.contribute(FakeContext(), params(value), {"examples": examples})
    result, summary = aggregator.aggregate(FakeContext())
    assert result["w"].tolist() == [12.0]
    assert summary == {"count": 2, "examples": 4}


def test_the_first_value_beyond_a_bound_is_found():
    values = ParameterSet.from_tensors(
        {"a": np.ones(2, np.float32), "b": np.array([1.0, np.nan, 9.0], np.float32)}
    )
    name, value = first_beyond(values, "float32", 2)
    assert name == "b"
    assert np.isnan(value)
    assert first_beyond(params(2.0, -2.0), "float32", 2) is None
    assert first_beyond(params(3.0), "float64", 2) is None


def test_layouts_that_differ_are_told_apart_in_words():
    two, three = params(1.0, 2.0).layout, params(1.0, 2.0, 3.0).layout
    assert differing(three, two) == "tensor 'w' of float32[3]"
    assert differing(ParameterSet.from_tensors({}).layout, two) == "no tensor 'w'"
