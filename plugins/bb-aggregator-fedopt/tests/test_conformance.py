import pytest

from bb_aggregator_fedopt._fedopt import FedOpt, FedOptConfig
from bb_testing.aggregator import AggregatorSuite
from bb_testing.context import environment


class TestAvgm(AggregatorSuite):
    streaming = True

    def make(self):
        return FedOpt(FedOptConfig(rule="avgm"), environment("aggregator"))


class TestAdagrad(AggregatorSuite):
    streaming = True

    def make(self):
        return FedOpt(FedOptConfig(rule="adagrad"), environment("aggregator"))


class TestYogi(AggregatorSuite):
    streaming = True

    def make(self):
        return FedOpt(FedOptConfig(rule="yogi"), environment("aggregator"))


class TestAdam(AggregatorSuite):
    streaming = True

    def make(self):
        return FedOpt(FedOptConfig(), environment("aggregator"))


class TestCompiledAdam(AggregatorSuite):
    streaming = True

    def make(self):
        pytest.importorskip("numba")
        return FedOpt(FedOptConfig(engine="numba"), environment("aggregator"))
