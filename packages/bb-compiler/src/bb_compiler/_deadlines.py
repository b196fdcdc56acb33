"""What gathers, sends and blocks say about how long they may take."""

from __future__ import annotations

from onnx import NodeProto

from bb_ir import onnx_tools

__all__ = ["is_measured", "said_ns"]


def said_ns(node: NodeProto) -> int:
    """Return the deadline that an op says, 0 for none."""
    return int(onnx_tools.attributes(node).get("deadline_ns", 0))


def is_measured(node: NodeProto) -> bool:
    """Whether a gather gives up who takes longer than usual."""
    return bool(onnx_tools.attributes(node).get("auto", 0))
