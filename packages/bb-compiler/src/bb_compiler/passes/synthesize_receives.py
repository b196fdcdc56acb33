"""Pass 11: the receiving half of every send."""

from __future__ import annotations

import json

from onnx import ModelProto, NodeProto, helper

from bb_ir import keys, onnx_tools
from bb_ir.types import TRIGGER


def synthesize_receives(model: ModelProto) -> ModelProto:
    """Split each send: what arrives becomes the result of a `Receive` in the region it opens."""
    result = ModelProto()
    result.CopyFrom(model)
    for function in result.functions:
        regions = json.loads(onnx_tools.get_meta(function, keys.REGIONS))
        classes = {region["name"]: region["cls"] for region in regions}
        types = onnx_tools.types_of(function)
        nodes: list[NodeProto] = []
        for node in function.node:
            nodes.append(node)
            if _arrives(node):
                nodes.append(_receive(node, classes))
                sent = f"{onnx_tools.get_meta(node, keys.EDGE)}.sent"
                node.output[:] = [sent]
                types[sent] = TRIGGER
        onnx_tools.set_types(function, types.items())
        onnx_tools.set_nodes(function, nodes)
    return result


def _arrives(node: NodeProto) -> bool:
    """Whether a node is a send that still gives the values as they arrive."""
    sent = f"{onnx_tools.get_meta(node, keys.EDGE)}.sent"
    return node.domain == keys.WIRE and node.op_type == keys.SEND and list(node.output) != [sent]


def _receive(send: NodeProto, classes: dict[str, str]) -> NodeProto:
    edge = onnx_tools.get_meta(send, keys.EDGE)
    node = helper.make_node(
        keys.RECEIVE, [], list(send.output), domain=keys.WIRE, values=len(send.input) - 1
    )
    onnx_tools.set_meta(node, keys.SOURCE, onnx_tools.get_meta(send, keys.SOURCE))
    onnx_tools.set_meta(node, keys.EDGE, edge)
    onnx_tools.set_meta(node, keys.SCOPE, onnx_tools.get_meta(send, keys.SCOPE))
    onnx_tools.set_meta(node, keys.CLASS, classes[edge])
    onnx_tools.set_meta(node, keys.REGION, edge)
    return node
