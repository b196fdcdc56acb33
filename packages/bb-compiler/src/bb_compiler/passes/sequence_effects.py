"""Pass 10: ops of one slot, within one region, keep the order in which they were recorded."""

from __future__ import annotations

from onnx import ModelProto, NodeProto

from bb_ir import keys, onnx_tools
from bb_ir.ops import role_op


def sequence_effects(model: ModelProto) -> ModelProto:
    """Stamp order edges: a writer after earlier ops of its slot, a reader after the last writer."""
    result = ModelProto()
    result.CopyFrom(model)
    for function in result.functions:
        last_writer: dict[tuple[str, str], NodeProto] = {}
        readers: dict[tuple[str, str], list[NodeProto]] = {}
        for node in function.node:
            slot = onnx_tools.get_meta(node, keys.SLOT)
            schema = role_op(node.domain, node.op_type)
            if not slot or schema is None:
                continue
            place = (onnx_tools.get_meta(node, keys.REGION), slot)
            before = [last_writer[place]] if place in last_writer else []
            if schema.effect == "reads":
                readers.setdefault(place, []).append(node)
            else:
                before += readers.pop(place, [])
                last_writer[place] = node
            onnx_tools.set_meta(node, keys.ORDER, ",".join(other.output[0] for other in before))
    return result
