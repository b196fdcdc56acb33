from typing import Any, ClassVar

from bb_aggregator_krum._krum import Krum, KrumConfig
from bb_testing.aggregator import AggregatorSuite, Update
from bb_testing.context import FakeContext, environment


class KrumSuite(AggregatorSuite):
    """What all configurations share: which, a class says."""

    min_updates = 5
    settings: ClassVar[dict[str, Any]] = {}

    def make(self, **more):
        return Krum(KrumConfig(**self.settings, **more), environment("aggregator"))

    def deferred_calls(self):
        rule = Krum(KrumConfig(**{**self.settings, "defer_above": 0}), environment("aggregator"))
        for at in range(5):
            update = Update(tuple(float(at * place % 7) for place in range(9)), examples=at + 1)
            rule.contribute(FakeContext(), update.params(), update.metrics())
        return {"aggregate": (rule, rule.aggregate)}


class TestKrum(KrumSuite):
    pass


class TestDeferred(KrumSuite):
    """Every round is aggregated by the executor."""

    settings: ClassVar = {"defer_above": 0}


class TestMultiKrum(KrumSuite):
    settings: ClassVar = {"attackers": 1, "select": 3}


class TestMeanOfAll(KrumSuite):
    """Without attackers all may be selected."""

    min_updates = 5
    settings: ClassVar = {"attackers": 0, "select": 5}
