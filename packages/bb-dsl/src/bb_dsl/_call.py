"""Records the call of a sub-module as a function of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from onnx import FunctionProto

from bb_dsl._build import to_function
from bb_dsl._checks import suggest
from bb_dsl._graph import Graph
from bb_dsl._source import user_line
from bb_dsl.errors import RecursiveModule, UnknownPort, UnnamedModule
from bb_ir.hashing import content_hash, stable_name

if TYPE_CHECKING:
    from bb_dsl._module import Module
    from bb_dsl._output import Output

__all__ = ["record_call"]


def record_call(graph: Graph, module: Module, given: Mapping[str, Any]) -> dict[str, Output]:
    """Record `module` into a function and append a call of it to `graph`.

    Raises:
        UnnamedModule: The sub-module is not an attribute of the calling Module.
        UnknownPort: Inputs given and inputs declared differ.
    """
    values = {name: graph.own(value) for name, value in given.items()}
    attribute = _attribute_of(graph, module)
    child = Graph(module, path=graph.path_of(module), parent=graph)
    child.given, child.called_at = values, (user_line(),)
    module.body(child)
    _check_ports(type(module).__name__, child, values)
    name = _remember(graph, to_function(child, type(module).__name__, "body"))
    actuals = [values[name] for name in child.inputs]
    return graph.append_call(name, graph.call_scope(attribute), actuals, child.outputs)


def _remember(graph: Graph, function: FunctionProto) -> str:
    """Add a function to the model and return its name; equal ones are kept once.

    The hash leaves out what placement will decide, such as `with g.at(...)`, so that two
    functions of one hash may still differ here.
    """
    short, digest = function.name, content_hash(function)
    nth = 1
    while True:
        function.name = stable_name(short if nth == 1 else f"{short}~{nth}", digest)
        known = graph.functions.setdefault(function.name, function)
        if known == function:
            return function.name
        nth += 1


def _attribute_of(graph: Graph, part: Module) -> str:
    outer: Graph | None = graph
    while outer is not None:
        if outer.module is part:
            raise RecursiveModule(
                f"{type(part).__name__} calls itself while it is recorded",
                fix="a program is finite: call another Module, or loop over rounds",
                where=user_line(),
            )
        outer = outer.parent
    for name, value in graph.module.submodules().items():
        if value is part:
            return name
    owner = type(graph.module).__name__
    raise UnnamedModule(
        f"{type(part).__name__} is called in {owner} but is no attribute of it",
        expected="a stable name for its slots and edges",
        fix=f"keep it: self.{type(part).__name__.lower()} = {type(part).__name__}(...)",
        where=user_line(),
    )


def _check_ports(name: str, child: Graph, given: Mapping[str, Any]) -> None:
    unknown = sorted(set(given) - set(child.inputs))
    missing = sorted(set(child.inputs) - set(given))
    if unknown or missing:
        wrong = [f"unknown: {', '.join(unknown)}"] * bool(unknown)
        wrong += [f"missing: {', '.join(missing)}"] * bool(missing)
        raise UnknownPort(
            f"the inputs of the call do not fit {name} ({'; '.join(wrong)})",
            expected=f"inputs {', '.join(child.inputs)}" if child.inputs else "no inputs",
            fix=suggest(unknown[0], missing or child.inputs) if unknown else "",
            where=user_line(),
        )
