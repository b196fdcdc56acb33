"""What it takes for a peer to answer more than once: `replies=` of a send to return addresses.

The frame that asked takes so many answers of each peer on that edge, and a peer has answered with
the last of them. So a program that can never send as many would make every peer fail, and one that
does not say which of them it answers in turn, or measures, has no meaning.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from onnx import ModelProto, NodeProto

from bb_compiler._blocks import is_block
from bb_compiler._deadlines import is_measured
from bb_compiler._placement_errors import lines_of
from bb_compiler.errors import BadReplies
from bb_ir import keys, onnx_tools

__all__ = ["check_replies", "replies_of"]

_Edge = Mapping[str, Any]


def replies_of(send: NodeProto) -> int:
    """Return how often a peer answers with a send."""
    return int(onnx_tools.attributes(send).get("replies", 1))


def check_replies(
    model: ModelProto, edges: list[dict[str, Any]], sends: Mapping[str, NodeProto]
) -> Iterator[BadReplies]:
    """Find sends that cannot do what their `replies=` says, and gathers that cannot count them."""
    many = {edge["name"]: edge for edge in edges if replies_of(sends[edge["name"]]) > 1}
    if not many:
        return
    around = _Around(model)
    answered = {edge["answers"]: sends[edge["name"]] for edge in edges}
    for name, edge in many.items():
        send = sends[name]
        if not edge["answers"]:
            yield _answers_nobody(name, send)
        elif name in answered:
            yield _is_answered(name, send, answered[name])
        else:
            yield from around.too_few(edge, send)
            yield from around.measured(name, send)


class _Around:
    """Where sends and gathers of a program stand."""

    def __init__(self, model: ModelProto) -> None:
        rows: list[Mapping[str, Any]] = [
            region
            for function in model.functions
            for region in json.loads(onnx_tools.get_meta(function, keys.REGIONS, "[]"))
        ]
        self._parents = {str(row["name"]): str(row["parent"]) for row in rows}
        nodes = [node for function in model.functions for node in function.node]
        self._blocks = {onnx_tools.get_meta(n, keys.OPENS): n for n in nodes if is_block(n)}
        stands = {
            name: onnx_tools.get_meta(node, keys.REGION) for node in nodes for name in node.output
        }
        #: Edge -> a gather over answers on it that gives up who takes longer than usual.
        self._measured = {
            stands.get(node.input[0], ""): node
            for node in nodes
            if node.op_type == keys.GATHER and node.domain == keys.SYSCALL and is_measured(node)
        }

    def too_few(self, edge: _Edge, send: NodeProto) -> Iterator[BadReplies]:
        """Complain when a peer can never answer as often as is said."""
        name, wanted = edge["name"], replies_of(send)
        most = self._most(str(edge["sent_in"]), str(edge["answers"]))
        if most is None or most >= wanted:
            return
        times = "once" if most == 1 else f"at most {most} times"
        yield BadReplies(
            f"a peer is to answer {wanted} times on edge {name!r}, and sends it {times}",
            expected=f"a send in a block of {wanted} turns, or replies={most}",
            fix=f"put it into `with g.loop({wanted}):`, or say how often it is really sent",
            where=lines_of(send),
        )

    def measured(self, name: str, send: NodeProto) -> Iterator[BadReplies]:
        """Complain about a gather that cannot tell how long an answer usually takes."""
        gather = self._measured.get(name)
        if gather is not None:
            yield BadReplies(
                f"a gather with deadline='auto' waits for {replies_of(send)} answers of each "
                f"peer on edge {name!r}",
                expected="one answer of each peer where it is measured how long they take",
                fix="give the gather a deadline such as '30s'",
                where=lines_of(gather, send),
            )

    def _most(self, region: str, holder: str) -> int | None:
        """Return how often a region runs at most for one return address, if that is known."""
        holders: set[str] = set()
        while holder:
            holders.add(holder)
            holder = self._parents.get(holder, "")
        most = 1
        while region not in holders:
            block = self._blocks.get(region)
            times = None if block is None else _turns(block)
            if times is None:
                return None
            most *= times
            region = self._parents.get(region, "")
        return most


def _turns(block: NodeProto) -> int | None:
    """Return how many turns a block has at most, if that is known."""
    if block.op_type == "When":
        return 1
    times = onnx_tools.attributes(block).get("times")
    return int(times) if block.op_type == "Loop" and times is not None else None


def _answers_nobody(name: str, send: NodeProto) -> BadReplies:
    return BadReplies(
        f"edge {name!r} says replies={replies_of(send)}, and answers nobody",
        expected="a send to return addresses: g.net_out(name, g.sender(received), ...)",
        fix="leave it out; peers take what is sent to them as often as it is sent",
        where=lines_of(send),
    )


def _is_answered(name: str, send: NodeProto, answer: NodeProto) -> BadReplies:
    return BadReplies(
        f"edge {onnx_tools.get_meta(answer, keys.EDGE)!r} answers edge {name!r}, on which a peer "
        f"sends {replies_of(send)} times",
        expected="answers to what a peer sends once",
        fix="send to the peers anew instead, and let them answer that",
        where=lines_of(answer, send),
    )
