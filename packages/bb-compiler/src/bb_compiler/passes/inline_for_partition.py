"""Pass 2: sub-module calls give way to their bodies, so that network edges come to the surface.

Values and edges of an inlined body get the call's scope before their names; slots already have
their full names. The first op of a body remembers the scope and the call's inputs: what it was
called with says where it stands.
"""

from __future__ import annotations

from onnx import FunctionProto, ModelProto, NodeProto

from bb_compiler._renaming import renamed
from bb_ir import keys, onnx_tools
from bb_ir.types import Type, meet


def inline_for_partition(model: ModelProto) -> ModelProto:
    """Return a model whose functions contain no calls."""
    library = {function.name: function for function in model.functions}
    parts = {
        node.op_type
        for function in model.functions
        for node in function.node
        if node.domain == keys.MODULE
    }
    result = ModelProto()
    result.CopyFrom(model)
    del result.functions[:]
    roots = (function for function in model.functions if function.name not in parts)
    result.functions.extend(_inline(root, library) for root in roots)
    del result.opset_import[:]
    result.opset_import.extend(onnx_tools.opsets(n for f in result.functions for n in f.node))
    return result


def _inline(function: FunctionProto, library: dict[str, FunctionProto]) -> FunctionProto:
    result = FunctionProto()
    result.CopyFrom(function)
    if not any(node.domain == keys.MODULE for node in function.node):
        return result
    nodes: list[NodeProto] = []
    types = onnx_tools.types_of(function)
    alias: dict[str, str] = {}
    for node in function.node:
        if node.domain != keys.MODULE:
            nodes.append(renamed(node, alias))
        else:
            nodes += _expand(node, _inline(library[node.op_type], library), alias, types)
    result.output[:] = [alias.get(name, name) for name in function.output]
    onnx_tools.set_types(result, types.items())
    onnx_tools.set_nodes(result, nodes)
    return result


def _expand(
    call: NodeProto, body: FunctionProto, alias: dict[str, str], types: dict[str, Type]
) -> list[NodeProto]:
    """Return the ops of a called body, and remember what its outputs are called here."""
    scope, block = onnx_tools.get_meta(call, keys.SCOPE), onnx_tools.get_meta(call, keys.BLOCK)
    actuals = [alias.get(name, name) for name in call.input]
    names = dict(zip(body.input, actuals, strict=True))
    for name, known in onnx_tools.types_of(body).items():
        here = names.setdefault(name, f"{scope}.{name}")
        types[here] = meet(types.get(here, known), known) or known
    nodes: list[NodeProto] = []
    results: dict[str, str] = {}
    for node in body.node:
        kept = node
        if node.op_type == keys.OUTPUT and node.domain == keys.SYSCALL:
            results[node.output[0]] = names[node.input[0]]
            if not onnx_tools.get_meta(node, keys.AFTER):
                continue
            kept = _passed_on(node)  # what waits is a value of its own
            results[node.output[0]] = names[node.output[0]]
        nodes.append(_scoped(renamed(kept, names), scope, block))
    if nodes:
        inner = onnx_tools.get_meta(nodes[0], keys.ENTER)
        entry = f"{scope}:{','.join(actuals)}"
        onnx_tools.set_meta(nodes[0], keys.ENTER, f"{entry};{inner}" if inner else entry)
    for outer, port in zip(call.output, body.output, strict=False):
        alias[outer] = results[port]
    return nodes


def _passed_on(output: NodeProto) -> NodeProto:
    """Return what stands for an output that waits for something besides its value."""
    node = NodeProto()
    node.CopyFrom(output)
    node.op_type = keys.PASS_THROUGH
    del node.attribute[:]
    return node


def _scoped(node: NodeProto, scope: str, block: str) -> NodeProto:
    """Put a scope before the names of calls, edges and blocks of an op.

    What stands in no block of the body stands in the one around the call.
    """
    inner = onnx_tools.get_meta(node, keys.SCOPE)
    onnx_tools.set_meta(node, keys.SCOPE, f"{scope}.{inner}" if inner else scope)
    for entry in node.metadata_props:
        if entry.key in (keys.EDGE, keys.BLOCK, keys.OPENS):
            entry.value = f"{scope}.{entry.value}"
        elif entry.key == keys.ENTER:
            entry.value = ";".join(f"{scope}.{one}" for one in entry.value.split(";"))
    if not onnx_tools.get_meta(node, keys.BLOCK):
        onnx_tools.set_meta(node, keys.BLOCK, block)
    return node
