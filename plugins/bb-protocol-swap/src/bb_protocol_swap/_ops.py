"""The ops of a swap, in one place for declaration, slot and component."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bb_ir.ops import OpSchema, Port, ops
from bb_ir.types import BYTES, PARAMS, peers, record, scalar, tensor

__all__ = ["DECISION", "HELD", "OPS", "READY", "RECEIPT", "VERSION"]

_INT: Final = scalar("int64")
_TEXT: Final = scalar("string")

#: What a version is known by: the digest of its manifest, and how many bytes it has.
VERSION: Final = record({"root": _TEXT, "nbytes": _INT})
#: What a Node serves: the root of its version, empty for none, and the epoch of its commit.
HELD: Final = record({"root": _TEXT, "epoch": _INT})
#: What is staged: bytes that were sent and bytes that were there already.
READY: Final = record({"root": _TEXT, "sent": _INT, "shared": _INT})
#: What a group flips to.
DECISION: Final = record({"root": _TEXT, "epoch": _INT})
#: What a Node did: the version that it left and the one that it serves now.
RECEIPT: Final = record({"root": _TEXT, "left": _TEXT, "epoch": _INT, "sent": _INT})

_SPANS: Final = tensor("uint8", (None,))

OPS: Final[Mapping[str, OpSchema]] = ops(
    # Where versions are published
    OpSchema("Manifest", "manifest", (Port("params", PARAMS),), (Port("version", VERSION),)),
    OpSchema(
        "Plan", "plan", (Port("held", HELD),), (Port("plan", BYTES), Port("spans", _SPANS)),
    ),
    OpSchema("Vote", "vote", (Port("ready", READY),)),
    OpSchema(
        "Decide", "decide", (Port("asked", peers()),),
        (Port("ready", peers()), Port("decision", DECISION)),
    ),
    # Where they are served
    OpSchema("Held", "held", (), (Port("held", HELD),), effect="reads"),
    # Nothing that is served changes by it, so requests are answered while it works.
    OpSchema(
        "Ready", "ready", (Port("plan", BYTES), Port("spans", _SPANS)), (Port("ready", READY),),
        effect="reads",
    ),
    OpSchema(
        "Commit", "commit", (Port("decision", DECISION),),
        (Port("params", PARAMS), Port("receipt", RECEIPT)),
    ),
)  # fmt: skip
