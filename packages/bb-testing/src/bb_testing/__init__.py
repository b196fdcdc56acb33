"""Conformance suites: inherit the one of your role, write `make`, run pytest."""

from __future__ import annotations

from bb_testing.aggregator import AggregatorSuite
from bb_testing.backend import BackendSuite
from bb_testing.context import FakeContext, environment, peer_id
from bb_testing.data_source import DataSourceSuite
from bb_testing.model import ModelSuite
from bb_testing.peer_selector import PeerSelectorSuite

__all__ = [
    "AggregatorSuite",
    "BackendSuite",
    "DataSourceSuite",
    "FakeContext",
    "ModelSuite",
    "PeerSelectorSuite",
    "environment",
    "peer_id",
]
