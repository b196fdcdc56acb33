"""The ops of the registry, in one place for declaration, slot and component."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bb_ir.ops import Attribute, OpSchema, Port, ops
from bb_ir.types import list_of, peers, record, scalar

__all__ = ["ANNOUNCEMENT", "DEPARTURE", "LEASE", "OPS"]

_INT: Final = scalar("int64")

#: What a member says of itself.
ANNOUNCEMENT: Final = record(
    {"sequence": _INT, "ttl_ns": _INT, "labels": list_of(scalar("string"))}
)
#: What it is answered.
LEASE: Final = record({"sequence": _INT, "ttl_ns": _INT, "renew_after_ns": _INT, "members": _INT})
#: What it says when it goes.
DEPARTURE: Final = record({"sequence": _INT})

_VIEW: Final = (
    Port("version", _INT),
    Port("complete", scalar("bool")),
    Port("joined", peers()),
    Port("left", peers()),
)

OPS: Final[Mapping[str, OpSchema]] = ops(
    # On a member
    OpSchema("Announce", "announce", (), (Port("announcement", ANNOUNCEMENT),)),
    OpSchema("Accept", "accept", (Port("lease", LEASE),)),
    OpSchema("Due", "due", (), (Port("due", scalar("bool")),), effect="reads"),
    OpSchema("Leave", "leave", (), (Port("departure", DEPARTURE),)),
    OpSchema("Known", "known", (), (Port("version", _INT),), effect="reads"),
    OpSchema("Learn", "learn", _VIEW),
    # On the Node that holds the table
    OpSchema(
        "Register", "register", (Port("announcement", ANNOUNCEMENT),), (Port("lease", LEASE),)
    ),
    OpSchema("Remove", "remove", (Port("departure", DEPARTURE),)),
    OpSchema("View", "view", (Port("since", _INT),), _VIEW, (Attribute("label", ""),), "reads"),
    # On both
    OpSchema(
        "Members", "members", (), (Port("peers", peers()),), (Attribute("label", ""),), "reads"
    ),
    OpSchema(
        "Sample",
        "sample",
        (),
        (Port("peers", peers()),),
        (Attribute("n"), Attribute("label", "")),
        "reads",
    ),
)
