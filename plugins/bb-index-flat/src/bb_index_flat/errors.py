"""What this index refuses, and why. Every refusal leaves the index as it was."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = ["InvalidSetting", "StateMismatch", "UnknownId", "VectorMismatch", "VectorOutOfRange"]


class InvalidSetting(BytesAndBrainsError, ValueError):
    """A field of the configuration, or the k of a search, is out of its range."""


class VectorMismatch(BytesAndBrainsError, ValueError):
    """An array is not a batch of vectors of this index's dimension, or not one of ids."""


class VectorOutOfRange(BytesAndBrainsError, ValueError):
    """A vector is not finite, or too long or too short for its distances to be computed."""


class UnknownId(BytesAndBrainsError, ValueError):
    """An id was never given out, or its vector has been removed."""


class StateMismatch(BytesAndBrainsError, ValueError):
    """A saved state is damaged, or of an index with another configuration."""
