"""What this planner refuses, and why."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = ["UnpackableChunks"]


class UnpackableChunks(BytesAndBrainsError, ValueError):
    """Lengths of chunks, or the size of buckets, are not what they can be.

    Met at `bb_planner_swap.packing`. Chunks have 0 bytes or more, 4 EiB in all at most, and buckets
    1 byte or more.
    """
