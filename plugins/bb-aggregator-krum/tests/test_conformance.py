import importlib.util
import subprocess
import sys
from typing import Any, ClassVar

import pytest

from bb_aggregator_krum import bb_component
from bb_aggregator_krum._krum import Krum, KrumConfig
from bb_roles.registry import component_class
from bb_testing.aggregator import AggregatorSuite
from bb_testing.collecting import CollectingAggregatorSuite
from bb_testing.context import environment


class TestKrum(CollectingAggregatorSuite):
    min_updates = 5
    tells = ("selected",)

    def build(self, **config):
        return Krum(KrumConfig(**config), environment("aggregator"))


class KrumSuite(AggregatorSuite):
    """What other configurations share: which, a class says."""

    min_updates = 5
    settings: ClassVar[dict[str, Any]] = {}

    def make(self):
        return self.build(**self.settings)

    build = TestKrum.build
    deferred_calls = TestKrum.deferred_calls


class TestDeferred(KrumSuite):
    """Every round is aggregated by the executor."""

    settings: ClassVar = {"defer_above": 0}


class TestMultiKrum(KrumSuite):
    settings: ClassVar = {"attackers": 1, "select": 3}


class TestMeanOfAll(KrumSuite):
    """Without attackers all may be selected."""

    min_updates = 5
    settings: ClassVar = {"attackers": 0, "select": 5}


@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")
class TestCompiled(KrumSuite):
    settings: ClassVar = {"engine": "numba"}


def test_the_plugin_declares_the_class_and_imports_nothing_heavy():
    assert component_class(bb_component()) is Krum
    code = "import sys, bb_aggregator_krum; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
