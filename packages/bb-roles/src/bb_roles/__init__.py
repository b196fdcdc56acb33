"""The contract between the engine and the parts that other people write.

A plugin depends on this package and on `bb_ir`, and on nothing else of ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bb_ir.params import ParameterSet
    from bb_roles._hooks import hookimpl, hookspec
    from bb_roles.contracts import (
        Aggregator,
        Backend,
        Batches,
        Codec,
        Component,
        Context,
        DataSource,
        Environment,
        Index,
        Model,
        NoConfig,
        PeerSelector,
        Protocol,
        Recipe,
        State,
    )
    from bb_roles.entry_points import ENTRY_POINT_GROUP
    from bb_roles.executor import Executor, OpReport, OpState, Progress, Report, Ticket, Wave
    from bb_roles.fused import FusedGraph, FusedNode
    from bb_roles.planner import (
        CacheRequest,
        CacheTables,
        ChunkSource,
        PageDemand,
        Planner,
        SwapRequest,
    )
    from bb_roles.spec import (
        CommandSpec,
        ComponentSpec,
        ExecutorSpec,
        OpsSpec,
        PlannerSpec,
        StageSpec,
        TransportSpec,
        TypeSpec,
    )
    from bb_roles.transport import Connection, Listener, Transport
    from bb_roles.value_types import TypeCodec

_HOME = {
    "bb_ir.params": ("ParameterSet",),
    "bb_roles._hooks": ("hookimpl", "hookspec"),
    "bb_roles.entry_points": ("ENTRY_POINT_GROUP",),
    "bb_roles.contracts": (
        "Aggregator", "Backend", "Batches", "Codec", "Component", "Context", "DataSource",
        "Environment", "Index", "Model", "NoConfig", "PeerSelector", "Protocol", "Recipe",
        "State",
    ),
    "bb_roles.executor": (
        "Executor", "OpReport", "OpState", "Progress", "Report", "Ticket", "Wave",
    ),
    "bb_roles.fused": ("FusedGraph", "FusedNode"),
    "bb_roles.planner": (
        "CacheRequest", "CacheTables", "ChunkSource", "PageDemand", "Planner", "SwapRequest",
    ),
    "bb_roles.spec": (
        "CommandSpec", "ComponentSpec", "ExecutorSpec", "OpsSpec", "PlannerSpec", "StageSpec",
        "TransportSpec", "TypeSpec",
    ),
    "bb_roles.transport": ("Connection", "Listener", "Transport"),
    "bb_roles.value_types": ("TypeCodec",),
}  # fmt: skip
__all__ = [
    "ENTRY_POINT_GROUP",
    "Aggregator",
    "Backend",
    "Batches",
    "CacheRequest",
    "CacheTables",
    "ChunkSource",
    "Codec",
    "CommandSpec",
    "Component",
    "ComponentSpec",
    "Connection",
    "Context",
    "DataSource",
    "Environment",
    "Executor",
    "ExecutorSpec",
    "FusedGraph",
    "FusedNode",
    "Index",
    "Listener",
    "Model",
    "NoConfig",
    "OpReport",
    "OpState",
    "OpsSpec",
    "PageDemand",
    "ParameterSet",
    "PeerSelector",
    "Planner",
    "PlannerSpec",
    "Progress",
    "Protocol",
    "Recipe",
    "Report",
    "StageSpec",
    "State",
    "SwapRequest",
    "Ticket",
    "Transport",
    "TransportSpec",
    "TypeCodec",
    "TypeSpec",
    "Wave",
    "hookimpl",
    "hookspec",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
