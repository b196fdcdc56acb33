"""The contract between the engine and the parts that other people write.

A plugin depends on this package and on `bb_ir`, and on nothing else of ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bb_ir.params import ParameterSet
    from bb_roles._hooks import ENTRY_POINT_GROUP, hookimpl, hookspec
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
    from bb_roles.fused import FusedGraph, FusedNode
    from bb_roles.spec import ComponentSpec, OpsSpec, StageSpec, TypeSpec
    from bb_roles.value_types import TypeCodec

_HOME = {
    "bb_ir.params": ("ParameterSet",),
    "bb_roles._hooks": ("ENTRY_POINT_GROUP", "hookimpl", "hookspec"),
    "bb_roles.contracts": (
        "Aggregator", "Backend", "Batches", "Codec", "Component", "Context", "DataSource",
        "Environment", "Index", "Model", "NoConfig", "PeerSelector", "Protocol", "Recipe",
        "State",
    ),
    "bb_roles.fused": ("FusedGraph", "FusedNode"),
    "bb_roles.spec": ("ComponentSpec", "OpsSpec", "StageSpec", "TypeSpec"),
    "bb_roles.value_types": ("TypeCodec",),
}  # fmt: skip
__all__ = [
    "ENTRY_POINT_GROUP",
    "Aggregator",
    "Backend",
    "Batches",
    "Codec",
    "Component",
    "ComponentSpec",
    "Context",
    "DataSource",
    "Environment",
    "FusedGraph",
    "FusedNode",
    "Index",
    "Model",
    "NoConfig",
    "OpsSpec",
    "ParameterSet",
    "PeerSelector",
    "Protocol",
    "Recipe",
    "StageSpec",
    "State",
    "TypeCodec",
    "TypeSpec",
    "hookimpl",
    "hookspec",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
