import importlib.util

import pytest

from bb_aggregator_fedavg._fedavg import FedAvg, FedAvgConfig
from bb_testing.aggregator import AggregatorSuite
from bb_testing.context import environment


class TestFedAvg(AggregatorSuite):
    streaming = True

    def make(self):
        return FedAvg(FedAvgConfig(), environment("aggregator"))


@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")
class TestCompiledFedAvg(AggregatorSuite):
    streaming = True

    def make(self):
        return FedAvg(FedAvgConfig(engine="numba"), environment("aggregator"))
