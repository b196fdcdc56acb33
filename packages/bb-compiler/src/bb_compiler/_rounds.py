"""Which rounds of aggregation can never hold anything.

A round belongs to the frame at the end of a frame's line of parents. So what is contributed in
replies to it and in turns of its blocks is of the same round, and what another invocation, tick or
message starts is of another.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import FunctionProto, NodeProto

from bb_compiler._placement import Placement
from bb_compiler._placement_errors import lines_of
from bb_compiler._wording import where_it_stands
from bb_compiler.errors import NothingContributed
from bb_ir import keys, onnx_tools
from bb_ir.ops import schema_of

__all__ = ["empty_rounds"]


def empty_rounds(function: FunctionProto, placement: Placement) -> Iterator[NothingContributed]:
    """Find ops that close a round to which no op of its slot can have given anything."""
    closing: list[tuple[NodeProto, str, str]] = []
    giving: dict[str, dict[str, NodeProto]] = {}
    for node, where in zip(function.node, placement.nodes, strict=True):
        schema = schema_of(node)
        if keys.role_of(node.domain) != "aggregator" or schema is None:
            continue
        slot, root = onnx_tools.get_meta(node, keys.SLOT), _root(placement, where.region)
        if schema.closes_round:
            closing.append((node, slot, root))
        elif schema.effect == "writes":
            giving.setdefault(slot, {}).setdefault(root, node)
    for node, slot, root in closing:
        if root not in giving.get(slot, {}):
            yield _nothing(node, slot, placement, root, giving)


def _root(placement: Placement, region: str) -> str:
    while parent := placement.regions[region].parent:
        region = parent
    return region


def _nothing(
    node: NodeProto,
    slot: str,
    placement: Placement,
    root: str,
    giving: dict[str, dict[str, NodeProto]],
) -> NothingContributed:
    elsewhere = giving.get(slot, {})
    others = [name for name, rounds in giving.items() if root in rounds]
    nearest = next(iter(elsewhere.values()), giving[others[0]][root] if others else None)
    if elsewhere:
        apart = where_it_stands(placement.regions[next(iter(elsewhere))])
        why = f"; what contributes to it is of another round, that of {apart}"
    elif others:
        why = f"; here something contributes to slot {others[0]!r}"
    else:
        why = ""
    return NothingContributed(
        f"{node.op_type} of slot {slot!r} takes the result of a round of "
        f"{where_it_stands(placement.regions[root])}, to which nothing contributes{why}",
        expected=f"self.{slot}.contribute(g, params, metrics) in the same round: in a reply to "
        "what it sent, in a block of it, or beside the aggregate",
        fix=f"aggregate slot {others[0]!r}, or contribute to {slot!r}"
        if others and not elsewhere
        else "contribute what arrives to this slot before the round is aggregated",
        where=lines_of(node, nearest),
    )
