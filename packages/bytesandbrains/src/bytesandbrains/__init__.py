"""Decentralized and federated machine learning: record, compile, install and run a program.

Every name is looked up when it is first used, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bb_compiler import CompileError, Compiler
    from bb_compiler.explain import explain
    from bb_dsl import BuildError, Gathered, Graph, Module, Output, Turn, slots
    from bb_ir.address import Address
    from bb_ir.errors import BytesAndBrainsError
    from bb_ir.ids import KeyPair, PeerId
    from bb_ir.params import ParameterSet
    from bb_ir.types import custom, list_of, params, peers, record, scalar, tensor
    from bb_runtime import (
        BlockEnded,
        Closed,
        ComponentStuck,
        Config,
        Deferred,
        Dropped,
        Emitted,
        FrameEnded,
        InstallError,
        LocalBus,
        Node,
        OpError,
        OpFailed,
        Options,
        Ship,
        SnapshotError,
        install,
        load_artifact,
    )
    from bytesandbrains import programs
    from bytesandbrains.local import FrameFailed, LocalFederation
    from bytesandbrains.snapshots import (
        load_federation,
        load_snapshot,
        save_federation,
        save_snapshot,
    )

    __version__: str

__all__ = [
    "Address", "BlockEnded", "BuildError", "BytesAndBrainsError", "Closed", "CompileError",
    "Compiler", "ComponentStuck", "Config", "Deferred", "Dropped", "Emitted", "FrameEnded",
    "FrameFailed", "Gathered", "Graph", "InstallError", "KeyPair", "LocalBus", "LocalFederation",
    "Module", "Node", "OpError",
    "OpFailed", "Options", "Output", "ParameterSet", "PeerId", "Ship", "SnapshotError", "Turn",
    "custom", "explain", "install", "list_of", "load_artifact", "load_federation",
    "load_snapshot", "params", "peers", "programs", "record", "save_federation", "save_snapshot",
    "scalar", "slots", "tensor",
]  # fmt: skip
_HOMES = {
    "bb_compiler": "CompileError Compiler",
    "bb_compiler.explain": "explain",
    "bb_dsl": "BuildError Gathered Graph Module Output Turn slots",
    "bb_ir.address": "Address",
    "bb_ir.errors": "BytesAndBrainsError",
    "bb_ir.ids": "KeyPair PeerId",
    "bb_ir.params": "ParameterSet",
    "bb_ir.types": "custom list_of params peers record scalar tensor",
    "bytesandbrains.local": "FrameFailed LocalFederation",
    "bytesandbrains.snapshots": "load_federation load_snapshot save_federation save_snapshot",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "__version__":
        from importlib.metadata import version

        return version("bytesandbrains")
    if name == "programs":
        return import_module("bytesandbrains.programs")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((m for m, names in _HOMES.items() if name in names.split()), "bb_runtime")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
