"""Pass 15: how long frames, and answers on edges, may take."""

from __future__ import annotations

import json

from onnx import ModelProto

from bb_ir import keys, onnx_tools

#: What a frame gets when nothing in it says more: 60 s.
FRAME_NS = 60 * 10**9


def stamp_deadlines(model: ModelProto) -> ModelProto:
    """Stamp a deadline on each region and edge.

    A frame may take the default, or twice what its gathers may wait, whichever is more. An edge
    whose answers are gathered carries the gather's deadline.
    """
    result = ModelProto()
    result.CopyFrom(model)
    waits: dict[str, int] = {}
    budgets: dict[str, int] = {}
    edges = json.loads(onnx_tools.get_meta(model, keys.EDGES, "[]"))
    asked = {edge["name"]: edge["answers"] for edge in edges}
    for function in result.functions:
        stands = {n: onnx_tools.get_meta(node, keys.REGION) for node in function.node
                  for n in node.output}  # fmt: skip
        for node in function.node:
            deadline = int(onnx_tools.attributes(node).get("deadline_ns", 0))
            region = onnx_tools.get_meta(node, keys.REGION)
            if node.op_type == keys.GATHER and deadline:
                waits[region] = waits.get(region, 0) + deadline
                budgets[asked.get(stands[node.input[0]], "")] = deadline
            elif node.op_type == keys.SEND and deadline:
                budgets[onnx_tools.get_meta(node, keys.EDGE)] = deadline
    for function in result.functions:
        regions = json.loads(onnx_tools.get_meta(function, keys.REGIONS))
        for region in regions:
            region["deadline_ns"] = max(FRAME_NS, 2 * waits.get(region["name"], 0))
        onnx_tools.set_meta(function, keys.REGIONS, json.dumps(regions))
    for edge in edges:
        edge["deadline_ns"] = budgets.get(edge["name"], FRAME_NS)
    onnx_tools.set_meta(result, keys.EDGES, json.dumps(edges))
    return result
