"""Pass 13: what each network edge carries."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from onnx import ModelProto, NodeProto

from bb_compiler._replies import replies_of
from bb_ir import keys, onnx_tools
from bb_ir.hashing import content_hash
from bb_ir.types import ANY, Type


def analyze_wire_edges(model: ModelProto) -> ModelProto:
    """Stamp the table of edges and the program's hash."""
    result = ModelProto()
    result.CopyFrom(model)
    # Only `main` is the name of several regions, one per phase, all of them on the own class.
    regions = {
        region["name"]: region
        for function in model.functions
        for region in json.loads(onnx_tools.get_meta(function, keys.REGIONS))
    }
    answered = {region["answers"] for region in regions.values()} - {""}
    sends = {
        onnx_tools.get_meta(node, keys.EDGE): node
        for function in model.functions
        for node in function.node
        if node.domain == keys.WIRE and node.op_type == keys.SEND
    }
    edges: list[dict[str, Any]] = []
    for function in model.functions:
        types = onnx_tools.types_of(function)
        edges += [
            _edge(node, types, regions, answered, sends)
            for node in function.node
            if node.domain == keys.WIRE and node.op_type == keys.RECEIVE
        ]
    onnx_tools.set_meta(result, keys.EDGES, json.dumps(edges))
    hashes = sorted(content_hash(function) for function in model.functions)
    program = hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    onnx_tools.set_meta(result, keys.PROGRAM, program)
    return result


def _edge(
    node: NodeProto,
    types: dict[str, Type],
    regions: dict[str, Any],
    answered: set[str],
    sends: dict[str, NodeProto],
) -> dict[str, Any]:
    name = onnx_tools.get_meta(node, keys.EDGE)
    region = regions[name]
    sent = onnx_tools.attributes(node)["values"]
    ports = [[out, str(types.get(out, ANY))] for out in node.output[:sent]]
    edge = {
        "name": name,
        "from": regions[region["opened_in"]]["cls"],
        "to": region["cls"],
        "sent_in": region["opened_in"],
        "parent": region["parent"],
        "answers": region["answers"],
        "answered": name in answered,
        "ports": ports,
        "source": onnx_tools.get_meta(node, keys.SOURCE),
    }
    if name in answered and _waited_for(region["opened_in"], regions, answered):
        edge["granted"] = True
    facts = [name, edge["from"], edge["to"], [t for _, t in ports], region["answers"]]
    facts += _promises(sends[name])
    digest = hashlib.sha256(json.dumps(facts).encode()).digest()
    edge["id"] = digest[:8].hex()
    return edge


def _promises(send: NodeProto) -> list[dict[str, Any]]:
    """Return what both ends of an edge have to agree on beside what it carries, where it is said.

    Whoever expects three replies closes its entry after the third, and whoever opens envelopes in
    the order of sending needs the numbers of those before.
    """
    promised: dict[str, Any] = {}
    if (replies := replies_of(send)) > 1:
        promised["replies"] = replies
    if onnx_tools.attributes(send).get("ordered"):
        promised["ordered"] = True
    return [promised] if promised else []


def _waited_for(region: str, regions: dict[str, Any], answered: set[str]) -> bool:
    """Whether somebody waits for the frames of a region: it, or one around it, owes an answer."""
    while region:
        if region in answered:
            return True
        region = regions[region]["parent"]
    return False
