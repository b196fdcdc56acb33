"""The ops of gossip, in one place for declaration, slot and component."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bb_ir.ops import OpSchema, Port, ops
from bb_ir.types import ANY, peers, record, scalar

__all__ = ["NUMBERED", "OPS", "SHARE", "STATUS"]

_INT: Final = scalar("int64")
_FLOAT: Final = scalar("float64")

#: What comes with a part of somebody's sum: its number, and the weight of the part.
SHARE: Final = record({"sequence": _INT, "weight": _FLOAT})
#: What comes with a question and its answer, or says that a part was received.
NUMBERED: Final = record({"sequence": _INT})
#: What a Node holds.
STATUS: Final = record({"weight": _FLOAT, "unconfirmed": _FLOAT, "waiting": _INT, "peers": _INT})

#: Numbers, tensors and parameter sets; a slot says which.
_VALUE: Final = Port("value", ANY)
_DRAWN: Final = Port("drawn", peers())
_TO: Final = Port("to", peers())
_NOTE: Final = Port("note", NUMBERED)

OPS: Final[Mapping[str, OpSchema]] = ops(
    # What this Node holds
    OpSchema("Put", "put", (_VALUE,)),
    OpSchema("Estimate", "estimate", (), (_VALUE,), effect="reads"),
    OpSchema("Status", "status", (), (Port("status", STATUS),), effect="reads"),
    OpSchema("Reclaim", "reclaim", (Port("gone", peers()),)),
    # Push
    OpSchema("Mix", "mix", (_VALUE,)),
    # Push-sum: share here, receive there, confirm here
    OpSchema("Share", "share", (_DRAWN,), (_TO, Port("note", SHARE), _VALUE)),
    OpSchema("Receive", "receive", (Port("note", SHARE), _VALUE), (Port("receipt", NUMBERED),)),
    OpSchema("Confirm", "confirm", (Port("receipt", NUMBERED),)),
    # Push-pull: ask here, answer there, settle here
    OpSchema("Ask", "ask", (_DRAWN,), (_TO, _NOTE, _VALUE)),
    OpSchema("Answer", "answer", (_NOTE, _VALUE), (Port("receipt", NUMBERED), Port("own", ANY))),
    OpSchema("Settle", "settle", (Port("receipt", NUMBERED), _VALUE)),
)
