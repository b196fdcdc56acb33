"""Pass 12: one function for each peer class."""

from __future__ import annotations

import json
from typing import Any

from onnx import FunctionProto, ModelProto, NodeProto

from bb_ir import keys, onnx_tools

#: What only placement needed; it names values that may stand in another function now.
_SPENT = (keys.AT, keys.ENTER, keys.BLOCK)


def partition_by_class(model: ModelProto) -> ModelProto:
    """Split each function by class, and name the parts: `<Module>`, `<Module>.<class>`."""
    result = ModelProto()
    result.CopyFrom(model)
    del result.functions[:]
    for function in model.functions:
        nodes: dict[str, list[NodeProto]] = {}
        for node in function.node:
            nodes.setdefault(onnx_tools.get_meta(node, keys.CLASS), []).append(node)
        regions = json.loads(onnx_tools.get_meta(function, keys.REGIONS))
        result.functions.extend(_part(function, *each, regions) for each in nodes.items())
    return result


def _part(
    function: FunctionProto, cls: str, nodes: list[NodeProto], regions: list[dict[str, Any]]
) -> FunctionProto:
    own = onnx_tools.get_meta(function, keys.OWN_CLASS) == cls
    part = FunctionProto(domain=function.domain, value_info=function.value_info)
    part.name = function.name if own else f"{function.name}.{cls}"
    part.metadata_props.extend(function.metadata_props)
    part.input.extend(function.input if own else ())
    made = {name for node in nodes for name in node.output}.union(part.input)
    part.output.extend(name for name in function.output if name in made)
    onnx_tools.set_nodes(part, nodes)
    for node in part.node:
        for key in _SPENT:
            onnx_tools.set_meta(node, key, "")
    mine = [region for region in regions if region["cls"] == cls]
    onnx_tools.set_meta(part, keys.REGIONS, json.dumps(mine))
    onnx_tools.set_meta(part, keys.CLASS, cls)
    return part
