"""Pass 12: one function for each peer class."""

from __future__ import annotations

import json

from onnx import FunctionProto, ModelProto

from bb_ir import keys, onnx_tools


def partition_by_class(model: ModelProto) -> ModelProto:
    """Split each function by class, and name the parts: `<Module>`, `<Module>.<class>`."""
    result = ModelProto()
    result.CopyFrom(model)
    del result.functions[:]
    for function in model.functions:
        for cls in dict.fromkeys(onnx_tools.get_meta(n, keys.CLASS) for n in function.node):
            result.functions.append(_part(function, cls))
    return result


def _part(function: FunctionProto, cls: str) -> FunctionProto:
    own = onnx_tools.get_meta(function, keys.OWN_CLASS)
    part = FunctionProto()
    part.domain = function.domain
    part.metadata_props.extend(function.metadata_props)
    part.node.extend(n for n in function.node if onnx_tools.get_meta(n, keys.CLASS) == cls)
    made = {name for node in part.node for name in node.output}
    if cls == own:
        part.input.extend(function.input)
    part.output.extend(name for name in function.output if name in made)
    types = onnx_tools.types_of(function)
    here = made | set(part.input)
    onnx_tools.set_types(part, [(name, t) for name, t in types.items() if name in here])
    domains = {node.domain for node in part.node}
    part.opset_import.extend(o for o in function.opset_import if o.domain in domains)
    regions = json.loads(onnx_tools.get_meta(function, keys.REGIONS))
    mine = [region for region in regions if region["cls"] == cls]
    onnx_tools.set_meta(part, keys.REGIONS, json.dumps(mine))
    onnx_tools.set_meta(part, keys.CLASS, cls)
    part.name = function.name if cls == own else f"{function.name}.{cls}"
    return part
