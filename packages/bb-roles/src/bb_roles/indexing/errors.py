"""What an index refuses, and why. Every refusal leaves the index as it was."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = ["StateMismatch", "UnknownId", "VectorMismatch", "VectorOutOfRange"]


class VectorMismatch(BytesAndBrainsError, ValueError):
    """An array is not a batch of vectors of this index's dimension, or not one of ids.

    Vectors come as (n, d), ids as (n,). Pass `vector[None, :]` for a single one.
    """


class VectorOutOfRange(BytesAndBrainsError, ValueError):
    """A vector is not finite, or too long or too short for its distances to be computed.

    Look at what computes the vectors, or scale them; a zero vector has no cosine.
    """


class UnknownId(BytesAndBrainsError, ValueError):
    """An id was never given out, or its vector has been removed.

    Remove each vector once; -1 in a search's result stands for no vector.
    """


class StateMismatch(BytesAndBrainsError, ValueError):
    """A saved state is damaged, or of an index with another configuration.

    Restore with the configuration that the state was saved with.
    """
