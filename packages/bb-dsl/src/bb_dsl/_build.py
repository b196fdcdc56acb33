"""From a Module to a recorded ONNX model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from onnx import FunctionProto, ModelProto, helper

from bb_dsl._errors import EmptyModule
from bb_dsl._graph import Graph
from bb_ir import keys, onnx_tools

if TYPE_CHECKING:
    from bb_dsl._module import Module

__all__ = ["build", "to_function"]


def build(module: Module) -> ModelProto:
    """Record a Module; the first function of the model is its body."""
    name = type(module).__name__
    graph = Graph(module, path="")
    module.body(graph)
    if not graph.nodes:
        raise EmptyModule(
            f"{name}.body records no op", fix="call a slot's method or g.output(...) in it"
        )
    functions = [to_function(graph, name, "body")]
    bootstrap = _bootstrap(module, graph)
    if bootstrap is not None:
        functions.append(bootstrap)
    functions += graph.functions.values()
    model = helper.make_model_gen_version(
        helper.make_graph([], name, [], []),
        functions=functions,
        opset_imports=_opsets(functions),
        ir_version=keys.IR_VERSION,
        producer_name="bytesandbrains",
    )
    onnx_tools.set_meta(model, keys.ROOT, name)
    onnx_tools.set_meta(model, keys.SLOTS, json.dumps(graph.slots, sort_keys=True))
    return model


def _bootstrap(module: Module, body: Graph) -> FunctionProto | None:
    record = getattr(module, "bootstrap", None)
    if record is None:
        return None
    graph = Graph(module, path="")
    graph.functions, graph.slots = body.functions, body.slots
    record(graph)
    if not graph.nodes:
        return None
    return to_function(graph, f"{type(module).__name__}.bootstrap", "bootstrap")


def to_function(graph: Graph, name: str, phase: str) -> FunctionProto:
    """Return what a graph recorded as one ONNX function."""
    function = FunctionProto(name=name, domain=keys.MODULE)
    function.input.extend(graph.inputs)
    function.output.extend(graph.outputs)
    function.node.extend(graph.nodes)
    onnx_tools.set_types(function, graph.types.items())
    function.opset_import.extend(_opsets([function]))
    onnx_tools.set_meta(function, keys.PHASE, phase)
    onnx_tools.set_meta(
        function, keys.OWN_CLASS, graph.module.peer_class or type(graph.module).__name__
    )
    return function


def _opsets(functions: list[FunctionProto]) -> list[helper.OperatorSetIdProto]:
    domains = sorted({node.domain for f in functions for node in f.node} | {keys.ONNX, keys.MODULE})
    versions = {keys.ONNX: keys.OPSET}
    return [helper.make_opsetid(d, versions.get(d, keys.OWN_OPSET)) for d in domains]
