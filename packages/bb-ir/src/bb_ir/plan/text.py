"""Messages of a plan as canonical JSON, and back: what is stored, compared and hashed.

It is the JSON form of protobuf, made unique: names in camelCase and in the order of the schema,
nothing that has its default, no blanks; 64-bit numbers as texts, enums by name, bytes in base64.
Every message has one such text, on every machine and in every version.

The reader takes that and any order and blanks, and nothing else: unknown names, names that come
twice, `null`, fractions and other types are errors that name the field. What is canonical is read
several times as fast.
"""

from __future__ import annotations

from typing import Any, TypeVar

from bb_ir.plan._json import json_bytes, message_of, read_object
from bb_ir.plan.binary import MAX_BYTES

__all__ = ["from_json", "read_object", "to_json"]

M = TypeVar("M")


def to_json(message: Any) -> str:
    """Return a message of `bb_ir.plan` as canonical JSON.

    Raises:
        PlanFormatError: A value does not fit its field, or the whole is longer than `MAX_BYTES`.
    """
    return json_bytes(message).decode()


def from_json(cls: type[M], text: str | bytes) -> M:
    """Read a message from JSON.

    Args:
        cls: What it is: `Plan`, `CachePlan`, `WeightManifest`, ...
        text: The text, or its bytes in UTF-8.

    Raises:
        PlanFormatError: It is no JSON, too long, or no such message.
    """
    found = _read_canonical(cls, text)
    return message_of(cls, text) if found is None else found


def _read_canonical(cls: type[M], text: str | bytes) -> M | None:
    from bb_ir.plan import _twins

    if len(text) > MAX_BYTES:
        return None
    try:
        data = text.encode() if isinstance(text, str) else text
    except UnicodeEncodeError:
        return None
    found: M | None = _twins.read(cls, data)
    return found
