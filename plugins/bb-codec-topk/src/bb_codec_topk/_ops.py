"""The op that this codec has beside those of its role; needs neither numpy nor the recorder."""

from __future__ import annotations

from bb_ir.ops import OpSchema, Port, ops
from bb_ir.types import PARAMS

__all__ = ["OPS"]

#: `Encode` of every codec reads; what remembers is an op of its own that writes.
OPS = ops(OpSchema("Compress", "compress", (Port("update", PARAMS),), (Port("encoded", PARAMS),)))
