"""Pass 3: what the recorder left implicit is written out: defaults, and what blocks are handed.

The frames of `every`, `on` and `rounds` outlive the frame that starts them, so they cannot read its
values. Each value from outside that such a block uses becomes an input of the block's op and a
result of its `Turn`, under a name of its own that stands for it inside.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnx import FunctionProto, ModelProto, NodeProto, helper

from bb_compiler._blocks import LexicalBlocks, is_root_block, is_turn
from bb_compiler._placement_errors import lines_of
from bb_compiler._renaming import renamed, used_names
from bb_compiler._wording import label_of
from bb_compiler.errors import BlockEscape, Findings
from bb_ir import keys, onnx_tools
from bb_ir.ops import schema_of
from bb_ir.plugin_ops import plugin_schema
from bb_ir.types import ANY


def expand_ops(model: ModelProto) -> ModelProto:
    """Fill in defaults that schemas have, and hand values to blocks that start frames of their own.

    Raises:
        BlockEscape: Such a block uses a return address from outside.
    """
    result = ModelProto()
    result.CopyFrom(model)
    findings = Findings()
    for function in result.functions:
        nodes = [_with_defaults(node) for node in function.node]
        onnx_tools.set_nodes(function, _Captures(function, nodes, findings).run())
    findings.done()
    return result


def _with_defaults(node: NodeProto) -> NodeProto:
    schema = schema_of(node) or plugin_schema(node)
    if schema is None:
        return node
    given = {attribute.name for attribute in node.attribute}
    for attribute in schema.attributes:
        if attribute.default is not None and attribute.name not in given:
            node.attribute.append(helper.make_attribute(attribute.name, attribute.default))
    return node


class _Captures:
    """Hands values to the root blocks of one function, the outer ones first."""

    def __init__(
        self, function: FunctionProto, nodes: Sequence[NodeProto], findings: Findings
    ) -> None:
        self.function = function
        self.nodes = list(nodes)
        self.findings = findings
        self.types = onnx_tools.types_of(function)
        self.blocks = LexicalBlocks(nodes)

    def run(self) -> list[NodeProto]:
        for at, node in enumerate(self.nodes):
            if is_root_block(node) and not self._captured(node):
                self._capture(at, node)
        onnx_tools.set_types(self.function, self.types.items())
        return self.nodes

    @staticmethod
    def _captured(block: NodeProto) -> bool:
        return any(attribute.name == "captured" for attribute in block.attribute)

    def _capture(self, at: int, block: NodeProto) -> None:
        name = onnx_tools.get_meta(block, keys.OPENS)
        inside = [
            number
            for number, node in enumerate(self.nodes)
            if number > at and self.blocks.holds(name, onnx_tools.get_meta(node, keys.BLOCK))
        ]
        made = {out for number in inside for out in self.nodes[number].output}
        wanted: dict[str, str] = {}
        for number in inside:
            for value in used_names(self.nodes[number]):
                if value not in made and value not in wanted:
                    self._check(block, self.nodes[number], value)
                    wanted[value] = self._name_inside(value, name)
        for number in inside:
            self.nodes[number] = renamed(self.nodes[number], wanted)
        self.types.update({new: self.types.get(old, ANY) for old, new in wanted.items()})
        turn = next(n for n in (self.nodes[i] for i in inside) if is_turn(n, name))
        turn.output.extend(wanted.values())
        block.attribute.append(helper.make_attribute("captured", len(wanted)))
        block.input.extend(wanted)

    def _name_inside(self, value: str, block: str) -> str:
        """Return a name that nothing has: ports have those that users choose."""
        name = f"{value}@{block.replace('@', '')}"
        while name in self.types:
            name += "~"
        return name

    def _check(self, block: NodeProto, node: NodeProto, value: str) -> None:
        known = self.types.get(value)
        asks = node.domain == keys.WIRE and node.op_type == keys.SENDER
        if asks or (known is not None and known.kind == "senders"):
            of = "of which it takes the sender" if asks else "the return address of a frame"
            self.findings.add(
                BlockEscape(
                    f"{node.op_type} uses {label_of(value)!r}, {of}, inside the "
                    f"{block.op_type.lower()} block, whose frames outlive the one that was asked",
                    expected="a peer, or a block of this frame: each, loop or when",
                    fix="answer outside the block, or send inside it what is to be answered",
                    where=lines_of(node, block),
                )
            )
