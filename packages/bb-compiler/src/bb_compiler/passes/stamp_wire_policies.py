"""Pass 14: what the engine enforces on each network edge.

What differs from edge to edge: how long a payload may be, how often an envelope is sent again, how
often a peer answers with it, and whether it is opened in the order of sending. Duplicates are
refused by peer and message id on all edges alike, which needs no entry here; so does what a Node
does about peers that are silent or too slow.
"""

from __future__ import annotations

import json
from typing import Any

from onnx import ModelProto, NodeProto

from bb_compiler._placement_errors import lines_of
from bb_compiler._replies import check_replies, replies_of
from bb_compiler._sizes import edge_bytes, largest_payload
from bb_compiler.errors import EdgeLimitTooLow, Findings
from bb_ir import keys, onnx_tools
from bb_ir.types import parse_type

#: How long to wait before an envelope is sent again to a peer whose round trips are not known.
_BACKOFF_NS = 10**9


def stamp_wire_policies(model: ModelProto) -> ModelProto:
    """Stamp on each edge the longest payload that it may have, and its retries if it has any.

    The longest payload is what the send says (`max_bytes`), else the most that the types of the
    values allow, with 64 KiB more for each parameter set, whose header may hold metadata. It is 0
    where the types allow any length: then the limit is that of each Node. An edge that does not
    say how often it is sent again does as the edge that it answers: an answer that is lost is as
    bad as a question. An edge on which a peer answers more than once says how often, and one
    that keeps the order of sending says so.

    Raises:
        CompileError: A send allows less than its values take, or a peer is to answer more often
            than it can.
    """
    findings = Findings()
    sends = {
        onnx_tools.get_meta(node, keys.EDGE): node
        for function in model.functions
        for node in function.node
        if (node.domain, node.op_type) == (keys.WIRE, keys.SEND)
    }
    edges: list[dict[str, Any]] = json.loads(onnx_tools.get_meta(model, keys.EDGES, "[]"))
    for edge in edges:
        edge["max_payload"] = _limit(edge, sends[edge["name"]], findings)
    for problem in check_replies(model, edges, sends):
        findings.add(problem)
    findings.done()
    answered = {edge["name"]: edge["answers"] for edge in edges}
    for edge in edges:
        edge.pop("retries", None)
        edge.pop("backoff_ns", None)
        if retries := _retries(edge["name"], sends, answered):
            edge |= {"retries": retries, "backoff_ns": _BACKOFF_NS}
        edge.pop("replies", None)
        if (replies := replies_of(sends[edge["name"]])) > 1:
            edge["replies"] = replies
        edge.pop("ordered", None)
        if onnx_tools.attributes(sends[edge["name"]]).get("ordered"):
            edge["ordered"] = True
    result = ModelProto()
    result.CopyFrom(model)
    onnx_tools.set_meta(result, keys.EDGES, json.dumps(edges))
    return result


def _limit(edge: dict[str, Any], send: NodeProto, findings: Findings) -> int:
    ports = [(name, parse_type(type_)) for name, type_ in edge["ports"]]
    said = int(onnx_tools.attributes(send).get("max_bytes", 0))
    if not said:
        largest = largest_payload(ports)
        # What carries no bytes may carry none; but 0 would leave it to the Node.
        return 0 if largest is None else max(largest, 1)
    payload = edge_bytes(
        ports,
        answered=edge["answered"],
        answers=bool(edge["answers"]),
        deadline_ns=0,
        dims={},
    ).payload
    needed = payload.least if payload.most is None else payload.most
    if said < needed:
        findings.add(_too_low(edge["name"], said, needed, send))
    return said


def _retries(name: str, sends: dict[str, NodeProto], answered: dict[str, str]) -> int:
    while name:
        said = onnx_tools.attributes(sends[name]).get("retries")
        if said is not None:
            return int(said)
        name = answered[name]
    return 0


def _too_low(name: str, said: int, needed: int, send: NodeProto) -> EdgeLimitTooLow:
    return EdgeLimitTooLow(
        f"edge {name!r} may carry {said:,} bytes, but its values take {needed:,} by their types",
        expected=f"max_bytes={needed} or more",
        fix="raise it, or leave it out where the types say all lengths",
        where=lines_of(send),
    )
