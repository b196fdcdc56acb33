"""Types around blocks: what they take, what they give to their turns, and what they bring out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from onnx import FunctionProto, ModelProto, NodeProto

from bb_compiler import _type_errors as errors
from bb_compiler._blocks import LexicalBlocks, captured_pairs, is_block, is_last, is_turn
from bb_compiler.errors import TypeMismatch
from bb_ir import keys, onnx_tools
from bb_ir.ops import BATCHES, batch_parts
from bb_ir.types import ANY, Type, accepts, meet, peers, tensor

if TYPE_CHECKING:
    from bb_compiler._values import Values

__all__ = ["BlockTypes", "Listeners", "listeners"]

#: Class and topic -> what listens there, with the type that its events must have.
Listeners = Mapping[tuple[str, str], Sequence[tuple[NodeProto, Type]]]

_WHOLE = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def listeners(model: ModelProto) -> Listeners:
    """Return the `on` blocks of a program."""
    found: dict[tuple[str, str], list[tuple[NodeProto, Type]]] = {}
    for function in model.functions:
        types = onnx_tools.types_of(function)
        for block, turn in _turns(function):
            if block.op_type == "On":
                topic = str(onnx_tools.attributes(block)["topic"])
                place = onnx_tools.get_meta(block, keys.CLASS), topic
                found.setdefault(place, []).append((block, types.get(turn.output[0], ANY)))
    return found


def _turns(function: FunctionProto) -> Iterator[tuple[NodeProto, NodeProto]]:
    blocks = LexicalBlocks(function.node).nodes
    for node in filter(is_turn, function.node):
        yield blocks[onnx_tools.get_meta(node, keys.OPENS)], node


class BlockTypes:
    """Solves the ops of blocks in one function.

    Args:
        nodes: Its ops.
        values: What is known of its values.
        listening: The `on` blocks of the program.
    """

    def __init__(self, nodes: Iterable[NodeProto], values: Values, listening: Listeners) -> None:
        self._blocks = LexicalBlocks(nodes).nodes
        self._values = values
        self._listening = listening

    def solve(self, node: NodeProto) -> None:
        """Check what an op is given, and note what it gives; others than those of blocks pass."""
        if is_block(node):
            self._block(node)
        elif is_turn(node):
            self._turn(node)
        elif is_last(node):
            self._last(node)
        elif node.op_type == keys.UNTIL:
            self._flag(node, 1)
        elif node.op_type == keys.PUBLISH:
            self._publish(node)

    def _block(self, node: NodeProto) -> None:
        known = self._values.of(node.input[0]) if node.input else ANY
        counts = int(onnx_tools.attributes(node).get("captured", 0)) < len(node.input)
        if node.op_type == "When":
            self._flag(node, 0)
        elif node.op_type in ("Loop", "Rounds") and counts and not _is_one(known, "int64", _WHOLE):
            self._unfit(node, 0, "a number of turns: an int64, or a tensor of one whole number")
        elif node.op_type == "Each" and _items(known) is None:
            self._unfit(node, 0, "batches, a list, peers, or a tensor with a first axis")

    def _flag(self, node: NodeProto, at: int) -> None:
        if not _is_one(self._values.of(node.input[at]), "bool", ("bool",)):
            self._unfit(node, at, "a condition: a bool, or a tensor of one bool")

    def _turn(self, node: NodeProto) -> None:
        values = self._values
        block = self._blocks[onnx_tools.get_meta(node, keys.OPENS)]
        for outside, inside in captured_pairs(block, [node]):
            values.follow(node, inside, values.trail(outside))
            values.narrow(node, inside, values.of(outside))
        items = _items(values.of(block.input[0])) if block.op_type == "Each" else None
        for name, known in zip(node.output, items or (), strict=False):
            values.follow(node, name, values.trail(block.input[0]))
            values.narrow(node, name, known)

    def _last(self, node: NodeProto) -> None:
        value, *default = (self._values.of(name) for name in node.input)
        known = _either(value, default[0]) if default else value
        if known is None:
            self._unfit(node, 1, f"a default of the value's own type, {value}")
        else:
            self._values.types[node.output[0]] = known

    def _publish(self, node: NodeProto) -> None:
        given, topic = self._values.of(node.input[0]), str(onnx_tools.attributes(node)["topic"])
        place = onnx_tools.get_meta(node, keys.CLASS), topic
        for block, wanted in self._listening.get(place, ()):
            if meet(given, wanted) is None:
                value = self._values.use(node, 0).name
                found = f"{value} of type {given} is published under topic {topic!r}"
                self._values.findings.add(
                    TypeMismatch(
                        f"{found}, whose events are {wanted}",
                        expected=f"a value of type {wanted}, or g.on({topic!r}, '{given}')",
                        where=errors.lines(node, *self._values.trail(node.input[0]), block),
                    )
                )

    def _unfit(self, node: NodeProto, at: int, expected: str) -> None:
        self._values.findings.add(errors.unfit(self._values.use(node, at), expected))


def _is_one(known: Type, kind: str, dtypes: Sequence[str]) -> bool:
    """Whether a value may be one plain value, or a tensor that holds one."""
    if known.kind != "tensor":
        return known.kind in (kind, "any")
    several = any(isinstance(length, int) and length != 1 for length in known.shape or ())
    return known.dtype in ("", *dtypes) and not several


def _items(source: Type) -> list[Type] | None:
    """Return the types of what `each` gives of a value, or `None` when it has no items."""
    if (source.kind, source.of) == (BATCHES.kind, BATCHES.of):
        return batch_parts(source)
    if source.kind == "list":
        return [source.items[0][1] if source.items else ANY]
    if source.kind == "peers":
        return [peers(source.of)]
    if source.kind == "tensor" and source.shape != ():
        return [tensor(source.dtype, source.shape[1:] if source.shape else None)]
    return [ANY] if source.kind == "any" else None


def _either(value: Type, default: Type) -> Type | None:
    """Return the type of one of two values, or `None` when they have nothing in common."""
    if accepts(value, default):
        return value
    if accepts(default, value):
        return default
    return None if meet(value, default) is None else ANY
