"""What this index refuses, and why. Every refusal leaves the index as it was."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError
from bb_roles.indexing.errors import StateMismatch, UnknownId, VectorMismatch, VectorOutOfRange

__all__ = ["InvalidSetting", "StateMismatch", "UnknownId", "VectorMismatch", "VectorOutOfRange"]


class InvalidSetting(BytesAndBrainsError, ValueError):
    """A field of the configuration, or the k of a search, is out of its range.

    The error says what may stand there.
    """
