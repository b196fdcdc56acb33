import pytest

from bb_aggregator_fedopt._fedopt import FedOpt, FedOptConfig
from bb_testing.aggregator import AggregatorSuite
from bb_testing.context import environment


class TestAvgm(AggregatorSuite):
    def make(self):
        return FedOpt(FedOptConfig(rule="avgm"), environment("aggregator"))


class TestAdagrad(AggregatorSuite):
    def make(self):
        return FedOpt(FedOptConfig(rule="adagrad"), environment("aggregator"))


class TestYogi(AggregatorSuite):
    def make(self):
        return FedOpt(FedOptConfig(rule="yogi"), environment("aggregator"))


class TestAdam(AggregatorSuite):
    def make(self):
        return FedOpt(FedOptConfig(), environment("aggregator"))


class TestCompiledAdam(AggregatorSuite):
    def make(self):
        pytest.importorskip("numba")
        return FedOpt(FedOptConfig(engine="numba"), environment("aggregator"))
