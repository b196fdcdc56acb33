"""Records the call of a sub-module as a function of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bb_dsl._build import to_function
from bb_dsl._errors import UnknownPort, UnnamedModule
from bb_dsl._graph import Graph
from bb_dsl._source import user_line
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
    attribute = _attribute_of(graph.module, module)
    path = f"{graph.path}.{attribute}" if graph.path else attribute
    graph.paths[id(module)] = path
    child = Graph(module, path=path, parent=graph)
    child.given = given
    module.body(child)
    _check_ports(type(module).__name__, child, given)
    function = to_function(child, type(module).__name__, "body")
    function.name = stable_name(function.name, content_hash(function))
    graph.functions.setdefault(function.name, function)
    actuals = [given[name] for name in child.inputs]
    scope = graph.call_scope(attribute)
    return graph.append_call(function.name, scope, actuals, child.outputs)


def _attribute_of(owner: Module, part: Module) -> str:
    for name, value in vars(owner).items():
        if value is part:
            return name
    raise UnnamedModule(
        f"{type(part).__name__} is called in {type(owner).__name__} but is no attribute of it",
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
            expected=f"inputs {', '.join(child.inputs) or 'none'}",
            where=user_line(),
        )
