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
            "Field": "bb_ops.syscalls:field",
            "PassThrough": "bb_ops.syscalls:pass_through",
            "Record": "bb_ops.syscalls:record",
            "Scalar": "bb_ops.syscalls:scalar",
        },
    )
