"""The language: a Module records a distributed program as an ONNX model.

Recording needs no component, no plugin and no network; nothing is executed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bb_dsl import slots
    from bb_dsl._blocks import Turn
    from bb_dsl._graph import Graph
    from bb_dsl._module import Module
    from bb_dsl._op_function import op_function
    from bb_dsl._output import Gathered, Output
    from bb_dsl.errors import BuildError

_HOME = {
    "BuildError": "errors",
    "Gathered": "_output",
    "Graph": "_graph",
    "Module": "_module",
    "Output": "_output",
    "Turn": "_blocks",
    "op_function": "_op_function",
}
__all__ = [
    "BuildError",
    "Gathered",
    "Graph",
    "Module",
    "Output",
    "Turn",
    "op_function",
    "slots",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "slots":
        return import_module("bb_dsl.slots")
    if name in _HOME:
        return getattr(import_module(f"bb_dsl.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
