"""The executor is held against the suite of executors, on both clocks."""

import pytest

from bb_executor_cpu._executor import CpuConfig, CpuExecutor
from bb_plans.places import Places
from bb_testing import ExecutorSuite


class TestCpu(ExecutorSuite):
    config = CpuConfig(pause=0)

    @pytest.fixture(autouse=True)
    def _close_places(self):
        self.opened = []
        yield
        for one in self.opened:
            one.close()

    def make(self, files, arenas):
        self.opened.append(Places(files=files, arenas=arenas))
        return CpuExecutor(self.config, self.opened[-1])


class TestSimulated(TestCpu):
    config = CpuConfig(pause=0, simulated_rate=10**9, simulated_start=10**9)
