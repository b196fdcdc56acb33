"""How blocks nest in the text of a program, by what the recorder noted on each op."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from onnx import NodeProto

from bb_ir import keys, onnx_tools

__all__ = [
    "LexicalBlocks",
    "captured",
    "captured_pairs",
    "is_block",
    "is_child_block",
    "is_last",
    "is_root_block",
    "is_turn",
]


def is_block(node: NodeProto) -> bool:
    """Whether an op opens the region of a block."""
    return node.domain == keys.SYSCALL and node.op_type in keys.BLOCKS


def is_root_block(node: NodeProto) -> bool:
    """Whether an op is a block whose frames outlive the frame that starts them."""
    return node.domain == keys.SYSCALL and node.op_type in keys.ROOT_BLOCKS


def is_child_block(node: NodeProto) -> bool:
    """Whether an op is a block whose turns are parts of the frame around them."""
    return node.domain == keys.SYSCALL and node.op_type in keys.CHILD_BLOCKS


def is_turn(node: NodeProto, block: str = "") -> bool:
    """Whether an op is the beginning of a block's region."""
    turn = node.domain == keys.SYSCALL and node.op_type == keys.TURN
    return turn and block in ("", onnx_tools.get_meta(node, keys.OPENS))


def is_last(node: NodeProto) -> bool:
    """Whether an op brings the value of the last turn out of a block."""
    return node.domain == keys.SYSCALL and node.op_type == keys.LAST


def captured(node: NodeProto) -> int:
    """Return how many of a block's inputs are handed to its turns; they come last."""
    return int(onnx_tools.attributes(node).get("captured", 0)) if is_block(node) else 0


def captured_pairs(block: NodeProto, nodes: Iterable[NodeProto]) -> Iterator[tuple[str, str]]:
    """Yield what each value that a block hands to its turns is called outside and inside."""
    count, region = captured(block), onnx_tools.get_meta(block, keys.OPENS)
    turn = next(node for node in nodes if is_turn(node, region))
    if count:
        yield from zip(block.input[-count:], turn.output[-count:], strict=True)


class LexicalBlocks:
    """The blocks of one function, and which stands in which."""

    def __init__(self, nodes: Iterable[NodeProto]) -> None:
        self.nodes = {onnx_tools.get_meta(n, keys.OPENS): n for n in nodes if is_block(n)}
        self._around = {
            name: onnx_tools.get_meta(node, keys.BLOCK) for name, node in self.nodes.items()
        }

    def around(self, name: str) -> str:
        """Return the block around a block, or an empty text."""
        return self._around.get(name, "")

    def holds(self, outer: str, inner: str) -> bool:
        """Whether a block is another, or stands around it; all stand in the empty one."""
        while inner and inner != outer:
            inner = self.around(inner)
        return inner == outer
