"""From a Module to a recorded ONNX model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from onnx import FunctionProto, ModelProto, helper

from bb_dsl._checks import check_class
from bb_dsl._graph import Graph
from bb_dsl.errors import EmptyModule
from bb_ir import keys, onnx_tools

if TYPE_CHECKING:
    from bb_dsl._module import Module

__all__ = ["build", "to_function"]


def build(module: Module) -> ModelProto:
    """Record a Module; the first function of the model is its body."""
    name = type(module).__name__
    body = Graph(module, path="")
    module.body(body)
    if not body.nodes:
        raise EmptyModule(
            f"{name}.body records no op", fix="call a slot's method or g.output(...) in it"
        )
    functions = [to_function(body, name, "body")]
    bootstrap = body.twin()
    getattr(module, "bootstrap", _nothing)(bootstrap)
    if bootstrap.nodes:
        functions.append(to_function(bootstrap, f"{name}.bootstrap", "bootstrap"))
    functions += body.functions.values()
    model = helper.make_model_gen_version(
        helper.make_graph([], name, [], []),
        functions=functions,
        opset_imports=onnx_tools.opsets(node for f in functions for node in f.node),
        ir_version=keys.IR_VERSION,
        producer_name="bytesandbrains",
    )
    onnx_tools.set_meta(model, keys.ROOT, name)
    onnx_tools.set_meta(model, keys.SLOTS, json.dumps(body.slots, sort_keys=True))
    return model


def _nothing(g: Graph) -> None:
    """Stands in for the bootstrap of a Module that has none."""


def to_function(graph: Graph, name: str, phase: str) -> FunctionProto:
    """Return what a graph recorded as one ONNX function, and close the graph."""
    graph.check_blocks()
    graph.closed = True
    graph.declare_slots()
    own_class = graph.module.peer_class or type(graph.module).__name__
    check_class(own_class)
    function = FunctionProto(name=name, domain=keys.MODULE)
    function.input.extend(graph.inputs)
    function.output.extend(graph.outputs)
    onnx_tools.set_types(function, graph.types.items())
    onnx_tools.set_nodes(function, graph.nodes)
    onnx_tools.set_meta(function, keys.PHASE, phase)
    onnx_tools.set_meta(function, keys.OWN_CLASS, own_class)
    return function
