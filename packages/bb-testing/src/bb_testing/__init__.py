"""Conformance suites: inherit the one of your role, write `make`, run pytest.

Names are resolved when they are used: pytest loads this package at every start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bb_testing.aggregator import AggregatorSuite
    from bb_testing.backend import BackendSuite
    from bb_testing.codec import CodecSuite
    from bb_testing.collecting import CollectingAggregatorSuite
    from bb_testing.command import CommandSuite
    from bb_testing.context import FakeContext, environment, peer_id
    from bb_testing.data_source import DataSourceSuite
    from bb_testing.executor import ExecutorSuite
    from bb_testing.index import IndexSuite
    from bb_testing.memory_transport import MemoryNetwork, MemoryTransport
    from bb_testing.model import ModelSuite
    from bb_testing.ops import OpsSuite
    from bb_testing.peer_selector import PeerSelectorSuite
    from bb_testing.planner import PlannerSuite
    from bb_testing.protocol import ProtocolSuite
    from bb_testing.stage import StageSuite
    from bb_testing.transport import TransportSuite
    from bb_testing.value_type import TypeSuite

_HOME = {
    "AggregatorSuite": "aggregator",
    "BackendSuite": "backend",
    "CodecSuite": "codec",
    "CollectingAggregatorSuite": "collecting",
    "CommandSuite": "command",
    "DataSourceSuite": "data_source",
    "ExecutorSuite": "executor",
    "FakeContext": "context",
    "IndexSuite": "index",
    "MemoryNetwork": "memory_transport",
    "MemoryTransport": "memory_transport",
    "ModelSuite": "model",
    "OpsSuite": "ops",
    "PeerSelectorSuite": "peer_selector",
    "PlannerSuite": "planner",
    "ProtocolSuite": "protocol",
    "StageSuite": "stage",
    "TransportSuite": "transport",
    "TypeSuite": "value_type",
    "environment": "context",
    "peer_id": "context",
}
__all__ = [
    "AggregatorSuite",
    "BackendSuite",
    "CodecSuite",
    "CollectingAggregatorSuite",
    "CommandSuite",
    "DataSourceSuite",
    "ExecutorSuite",
    "FakeContext",
    "IndexSuite",
    "MemoryNetwork",
    "MemoryTransport",
    "ModelSuite",
    "OpsSuite",
    "PeerSelectorSuite",
    "PlannerSuite",
    "ProtocolSuite",
    "StageSuite",
    "TransportSuite",
    "TypeSuite",
    "environment",
    "peer_id",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"bb_testing.{_HOME[name]}"), name)
