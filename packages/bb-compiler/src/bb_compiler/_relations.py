"""What role ops say of each other's values beyond their schemas; facts only, no complaints.

Within one op, a name in the types of its ports stands for one length: an index that is given
vectors `[n,d]` returns ids `[n]`. The contracts of roles promise some of these (`PROMISED`), a
component may declare more. A name that is an attribute of the op stands for its value.

Between ops of one slot on one class: what a model loads is what it gives later, and what an
aggregator is given in a round is what the round gives. A component that declares the types of both
ports itself says how they belong together; then nothing is added here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from onnx import FunctionProto, NodeProto

from bb_ir import keys, onnx_tools
from bb_ir.errors import TypeTextError
from bb_ir.lengths import Lengths
from bb_ir.ops import schema_of
from bb_ir.types import ANY, Type, meet, parse_type

__all__ = ["Fact", "Facts", "declared", "lengths_of", "linked", "promised", "rounds_of"]

Key = tuple[Any, ...]

_INDEX: Final = keys.role_domain("index")
#: Shapes that the contracts promise, by domain and op.
_PROMISED: Final[Mapping[tuple[str, str], Mapping[str, Type]]] = {
    (_INDEX, op): MappingProxyType({port: parse_type(text) for port, text in ports.items()})
    for op, ports in {
        "Add": {"vectors": "tensor[n,d]", "ids": "tensor(int64)[n]"},
        "Search": {
            "queries": "tensor[n,d]", "ids": "tensor(int64)[n,k]", "distances": "tensor[n,k]",
        },
        "Remove": {"ids": "tensor(int64)[n]"},
        "Train": {"samples": "tensor[n,d]"},
    }.items()
}  # fmt: skip
_NOTHING: Final[Mapping[str, Type]] = MappingProxyType({})


def promised(node: NodeProto) -> Mapping[str, Type]:
    """Return what the contract of an op's role says of its ports beyond the schema."""
    return _PROMISED.get((node.domain, node.op_type), _NOTHING)


def declared(node: NodeProto, row: Mapping[str, Any]) -> Mapping[str, Type]:
    """Return what a component declares of an op's ports; texts that are no types are left out."""
    found: dict[str, Type] = {}
    for place, text in row.get("types", {}).items():
        op, _, port = place.partition(".")
        if op == node.op_type:
            try:
                found[port] = parse_type(text)
            except TypeTextError:
                continue  # `refine_value_types` complains
    return found


def linked(row: Mapping[str, Any], *ports: str) -> bool:
    """Whether a relation between ports holds: unless the component declares all of them."""
    return not all(port in row.get("types", {}) for port in ports)


def lengths_of(node: NodeProto) -> Lengths:
    """Return what an op's attributes tell of the names in the types of its ports."""
    return Lengths({a.name: a.i for a in node.attribute if a.type == a.INT})


@dataclass(frozen=True, slots=True)
class Fact:
    """What is known of values that belong together, and the ops from which it is known."""

    type: Type = ANY
    nodes: tuple[NodeProto, ...] = ()


class Facts:
    """What ops have told about values that other ops give.

    An op may ask before another one told: then `stale` says that it is worth asking again.
    """

    def __init__(self) -> None:
        self._known: dict[Key, Fact] = {}
        self._asked: dict[Key, Type] = {}

    def tell(self, key: Key, known: Type, nodes: tuple[NodeProto, ...]) -> Fact | None:
        """Note the type of one more value; return the fact that rules it out, if one does."""
        fact = self._known.get(key, Fact())
        met = meet(fact.type, known)
        if met is None:
            return fact
        if met != fact.type:
            self._known[key] = Fact(met, nodes)
        return None

    def ask(self, key: Key) -> Fact:
        """Return what is known."""
        fact = self._known.get(key, Fact())
        self._asked[key] = fact.type
        return fact

    def stale(self) -> bool:
        """Whether more is known now than when somebody asked; forgets what was asked."""
        asked, self._asked = self._asked, {}
        return any(self._known.get(key, Fact()).type != seen for key, seen in asked.items())


def rounds_of(function: FunctionProto) -> dict[int, Key]:
    """Return, for each op that adds to a round or ends it, which round of the function it is.

    Ops of one slot in frames of one root belong together. Where a function ends several rounds of
    a slot, each round has what was recorded since the one before.

    Returns:
        The number of the op in its function, to a key that ops of one round share.
    """
    regions = json.loads(onnx_tools.get_meta(function, keys.REGIONS, "[]"))
    parents = {region["name"]: region["parent"] for region in regions}
    places: dict[Key, list[tuple[int, bool]]] = {}
    for at, node in enumerate(function.node):
        if node.domain == keys.role_domain("aggregator"):
            schema = schema_of(node)
            last = schema is not None and schema.closes_round
            places.setdefault(_place(node, parents), []).append((at, last))
    found: dict[int, Key] = {}
    for place, ops in places.items():
        ends = Counter(end for _, end in ops)[True] or 1
        turn = 0
        for at, end in ops:
            found[at] = (function.name, *place, turn % ends)
            turn += int(end)
    return found


def _place(node: NodeProto, parents: Mapping[str, str]) -> Key:
    """Return class, slot and root region of an op."""
    region = onnx_tools.get_meta(node, keys.REGION)
    while parents.get(region):
        region = parents[region]
    return (onnx_tools.get_meta(node, keys.CLASS), onnx_tools.get_meta(node, keys.SLOT), region)
