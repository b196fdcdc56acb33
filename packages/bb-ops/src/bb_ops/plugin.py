"""Declares the framework ops of this distribution."""

from __future__ import annotations

from bb_roles import OpsSpec, hookimpl


@hookimpl
def bb_ops() -> OpsSpec:
    """Return the ops of the domain `ai.bytesandbrains.syscall`."""
    return OpsSpec(
        domain="ai.bytesandbrains.syscall",
        ops={
            "Calculate": "bb_ops.syscalls:calculate",
            "Choice": "bb_ops.node:choice",
            "Concat": "bb_ops.lists:concat",
            "Field": "bb_ops.syscalls:field",
            "Item": "bb_ops.lists:item",
            "Length": "bb_ops.lists:length",
            "Me": "bb_ops.node:me",
            "Now": "bb_ops.node:now",
            "PassThrough": "bb_ops.syscalls:pass_through",
            "Random": "bb_ops.node:random",
            "Record": "bb_ops.syscalls:record",
            "Reduce": "bb_ops.lists:reduce",
            "Scalar": "bb_ops.syscalls:scalar",
            "Without": "bb_ops.lists:without",
        },
    )
