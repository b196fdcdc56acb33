import subprocess
import sys
from typing import Any, ClassVar

from bb_aggregator_trimmed_mean import bb_component
from bb_aggregator_trimmed_mean._trimmed_mean import TrimmedMean, TrimmedMeanConfig
from bb_roles.registry import component_class
from bb_testing.aggregator import AggregatorSuite
from bb_testing.collecting import CollectingAggregatorSuite
from bb_testing.context import environment


class TestTrimmedMean(CollectingAggregatorSuite):
    min_updates = 3
    settings: ClassVar[dict[str, Any]] = {}

    def build(self, **config):
        fields = {**self.settings, **config}
        return TrimmedMean(TrimmedMeanConfig(**fields), environment("aggregator"))


class TestPlainMean(TestTrimmedMean):
    min_updates = 1
    settings: ClassVar = {"trim": 0}


class TestDeferred(AggregatorSuite):
    """Every round is aggregated by the executor."""

    min_updates = 3
    settings: ClassVar[dict[str, Any]] = {"defer_above": 0}

    def make(self):
        return self.build()

    deferred_calls = TestTrimmedMean.deferred_calls
    build = TestTrimmedMean.build


def test_the_plugin_declares_the_class_and_imports_nothing_heavy():
    assert component_class(bb_component()) is TrimmedMean
    code = "import sys, bb_aggregator_trimmed_mean; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
