from typing import Any, ClassVar

from bb_aggregator_median._median import Median, MedianConfig
from bb_testing.aggregator import AggregatorSuite, Update
from bb_testing.context import FakeContext, environment


class MedianSuite(AggregatorSuite):
    """What all configurations share: which, a class says."""

    min_updates = 1
    settings: ClassVar[dict[str, Any]] = {}

    def make(self, **more):
        return Median(MedianConfig(**self.settings, **more), environment("aggregator"))

    def deferred_calls(self):
        rule = Median(
            MedianConfig(**{**self.settings, "defer_above": 0}), environment("aggregator")
        )
        for at in range(5):
            update = Update(tuple(float(at * place % 7) for place in range(9)), examples=at + 1)
            rule.contribute(FakeContext(), update.params(), update.metrics())
        return {"aggregate": (rule, rule.aggregate)}


class TestMedian(MedianSuite):
    pass


class TestDeferred(MedianSuite):
    """Every round is aggregated by the executor."""

    settings: ClassVar = {"defer_above": 0}
