"""Pass 2: sub-module calls give way to their bodies, so that network edges come to the surface.

Values and edges of an inlined body get the call's scope before their names; slots already have
their full names. The first op of a body remembers the call's inputs, since ops without inputs
stand at the place of the call.
"""

from __future__ import annotations

from onnx import FunctionProto, ModelProto, NodeProto

from bb_ir import keys, onnx_tools
from bb_ir.types import Type


def inline_for_partition(model: ModelProto) -> ModelProto:
    """Return a model whose functions contain no calls."""
    library = {function.name: function for function in model.functions}
    roots = [f for f in model.functions if not _is_part(f, model)]
    result = ModelProto()
    result.CopyFrom(model)
    del result.functions[:]
    result.functions.extend(_inline(root, library) for root in roots)
    return result


def _is_part(function: FunctionProto, model: ModelProto) -> bool:
    """Whether a function is a sub-module rather than the body or bootstrap of the root."""
    return any(
        node.domain == keys.MODULE and node.op_type == function.name
        for caller in model.functions
        for node in caller.node
    )


def _inline(function: FunctionProto, library: dict[str, FunctionProto]) -> FunctionProto:
    result = FunctionProto()
    result.CopyFrom(function)
    del result.node[:]
    types = onnx_tools.types_of(function)
    alias: dict[str, str] = {}
    for node in function.node:
        if node.domain != keys.MODULE:
            result.node.append(_renamed(node, alias))
            continue
        body = _inline(library[node.op_type], library)
        result.node.extend(_expand(node, body, alias, types))
    for at, name in enumerate(result.output):
        result.output[at] = alias.get(name, name)
    onnx_tools.set_types(result, types.items())
    return result


def _expand(
    call: NodeProto, body: FunctionProto, alias: dict[str, str], types: dict[str, Type]
) -> list[NodeProto]:
    scope = onnx_tools.get_meta(call, keys.SCOPE)
    actuals = [alias.get(name, name) for name in call.input]
    names = dict(zip(body.input, actuals, strict=True))
    inner_types = onnx_tools.types_of(body)
    for name, type_ in inner_types.items():
        if name not in names:
            names[name] = f"{scope}.{name}"
            types[names[name]] = type_
    nodes: list[NodeProto] = []
    results: dict[str, str] = {}
    for node in body.node:
        if node.op_type == keys.OUTPUT and node.domain == keys.SYSCALL:
            results[node.output[0]] = names[node.input[0]]
            continue
        inner = _renamed(node, names)
        _rescope(inner, scope)
        nodes.append(inner)
    if nodes:
        onnx_tools.set_meta(nodes[0], keys.ENTER, ",".join(actuals))
    for outer, port in zip(call.output, body.output, strict=False):
        alias[outer] = results[port]
    return nodes


def _renamed(node: NodeProto, names: dict[str, str]) -> NodeProto:
    result = NodeProto()
    result.CopyFrom(node)
    result.input[:] = [names.get(name, name) for name in node.input]
    result.output[:] = [names.get(name, name) for name in node.output]
    for key in (keys.AFTER, keys.ENTER):
        listed = onnx_tools.meta_list(node, key)
        onnx_tools.set_meta(result, key, ",".join(names.get(name, name) for name in listed))
    at = onnx_tools.get_meta(node, keys.AT)
    if at.startswith("value:"):
        name = at.removeprefix("value:")
        onnx_tools.set_meta(result, keys.AT, f"value:{names.get(name, name)}")
    return result


def _rescope(node: NodeProto, scope: str) -> None:
    inner = onnx_tools.get_meta(node, keys.SCOPE)
    onnx_tools.set_meta(node, keys.SCOPE, f"{scope}.{inner}" if inner else scope)
    edge = onnx_tools.get_meta(node, keys.EDGE)
    if edge:
        onnx_tools.set_meta(node, keys.EDGE, f"{scope}.{edge}")
