import subprocess
import sys

from bb_aggregator_median import bb_component
from bb_aggregator_median._median import Median, MedianConfig
from bb_roles.registry import component_class
from bb_testing.aggregator import AggregatorSuite
from bb_testing.collecting import CollectingAggregatorSuite
from bb_testing.context import environment


class TestMedian(CollectingAggregatorSuite):
    def build(self, **config):
        return Median(MedianConfig(**config), environment("aggregator"))


class TestDeferred(AggregatorSuite):
    """Every round is aggregated by the executor."""

    def make(self):
        return Median(MedianConfig(defer_above=0), environment("aggregator"))

    deferred_calls = TestMedian.deferred_calls
    build = TestMedian.build


def test_the_plugin_declares_the_class_and_imports_nothing_heavy():
    assert component_class(bb_component()) is Median
    code = "import sys, bb_aggregator_median; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
