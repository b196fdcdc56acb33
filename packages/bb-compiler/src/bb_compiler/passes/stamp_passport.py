"""Pass 18: final names, the binding table and the passport."""

from __future__ import annotations

import json

from onnx import ModelProto

from bb_ir import keys, onnx_tools
from bb_ir.hashing import content_hash, stable_name


def stamp_passport(model: ModelProto) -> ModelProto:
    """Name each target after its hash; write binding rows, full hashes, and `compiled`."""
    result = ModelProto()
    result.CopyFrom(model)
    table = json.loads(onnx_tools.get_meta(model, keys.RESOLVED, "{}"))
    for function in result.functions:
        digest = content_hash(function)
        short, function.name = function.name, stable_name(function.name, digest)
        for call in result.graph.node:
            if call.op_type == short:
                call.op_type = function.name
        rows = table.get(onnx_tools.get_meta(function, keys.CLASS), {})
        for slot, row in sorted(rows.items()):
            key = f"{keys.BINDING}{function.name}/{slot}"
            onnx_tools.set_meta(result, key, f"{row['role']}|{row['component']}|-1")
        onnx_tools.set_meta(result, keys.HASH + function.name, digest)
    for key in (keys.BINDINGS, keys.RESOLVED):
        onnx_tools.set_meta(result, key, "")
    onnx_tools.set_meta(result, keys.COMPILED, keys.COMPILED_VERSION)
    return result
