"""Pass 18: final names, the binding table and the passport."""

from __future__ import annotations

import json
from typing import Any

from onnx import ModelProto

from bb_ir import keys, onnx_tools
from bb_ir.hashing import content_hash, stable_name


def stamp_passport(model: ModelProto) -> ModelProto:
    """Name each target after its hash; write binding rows, full hashes, and `compiled`.

    A row that was bound with a configuration has more entries: the configuration, the types that
    follow from it, and those that follow from it and the types of what the component is given.
    """
    result = ModelProto()
    result.CopyFrom(model)
    table = json.loads(onnx_tools.get_meta(model, keys.RESOLVED, "{}"))
    for function in result.functions:
        digest = content_hash(function)
        if function.domain == keys.FUSED:
            onnx_tools.set_meta(result, keys.HASH + function.name, digest)
            continue
        short, function.name = function.name, stable_name(function.name, digest)
        for call in result.graph.node:
            if call.op_type == short:
                call.op_type = function.name
        rows = table.get(onnx_tools.get_meta(function, keys.CLASS), {})
        for slot, row in sorted(rows.items()):
            _stamp_row(result, f"{function.name}/{slot}", row)
        onnx_tools.set_meta(result, keys.HASH + function.name, digest)
    for key in (keys.BINDINGS, keys.RESOLVED):
        onnx_tools.set_meta(result, key, "")
    onnx_tools.set_meta(result, keys.COMPILED, keys.COMPILED_VERSION)
    return result


def _stamp_row(model: ModelProto, place: str, row: dict[str, Any]) -> None:
    onnx_tools.set_meta(model, keys.BINDING + place, f"{row['role']}|{row['component']}|-1")
    onnx_tools.set_meta(model, keys.CONFIG + place, row.get("config", ""))
    for key, entry in ((keys.VALUE_TYPES, "value_types"), (keys.INFERRED, "inferred")):
        if row.get(entry):
            onnx_tools.set_meta(model, key + place, json.dumps(row[entry], sort_keys=True))
