"""Reads the fields of messages: a stranger may send what no registry wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from bb_ir.ids import PeerId
from bb_protocol_registry.errors import InvalidMessage

__all__ = ["LARGEST", "count", "labels", "peers"]

#: Largest number that an int64 holds.
LARGEST: Final = (1 << 63) - 1
#: Bounds of what a member may say of itself.
_MOST_LABELS: Final = 16
_LONGEST_LABEL: Final = 64


def count(what: str, fields: Mapping[str, Any], name: str, *, least: int) -> int:
    """Return a whole number of a message, at least `least`."""
    value = fields.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= LARGEST:
        return value
    raise InvalidMessage(
        f"{what} says {name}={value!r}", expected=f"a whole number of {least} or more"
    )


def labels(value: Any) -> tuple[str, ...]:
    """Return the labels of a message or of a configuration, as they are."""
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise InvalidMessage(f"labels are {value!r}", expected="a list of texts")
    if len(value) > _MOST_LABELS:
        raise InvalidMessage(f"there are {len(value)} labels", expected=f"{_MOST_LABELS} or fewer")
    for label in value:
        if not isinstance(label, str) or not 0 < len(label) <= _LONGEST_LABEL:
            raise InvalidMessage(
                f"{str(label)[:_LONGEST_LABEL]!r} is a label",
                expected=f"texts of 1 to {_LONGEST_LABEL} characters",
            )
    return tuple(value)


def peers(what: str, value: Any) -> tuple[PeerId, ...]:
    """Return a list of peers of a message."""
    if isinstance(value, (list, tuple)) and all(isinstance(peer, PeerId) for peer in value):
        return tuple(value)
    raise InvalidMessage(f"{what} is a {type(value).__name__}", expected="a list of PeerIds")
