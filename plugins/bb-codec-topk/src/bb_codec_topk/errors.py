"""What this codec refuses, and why."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = [
    "InvalidSetting",
    "NotAnUpdate",
    "ResidualUnfit",
    "RoundNotSaved",
    "SparseDamaged",
    "SparseTooLarge",
    "UpdateNotFinite",
    "UpdateReshaped",
]


class InvalidSetting(BytesAndBrainsError, ValueError):
    """A field of the configuration is out of its range.

    Met when the codec is built. The error lists what the field can be.
    """


class NotAnUpdate(BytesAndBrainsError, ValueError):
    """A value that is to be encoded or decoded is no parameter set.

    Put single tensors into a set: `ParameterSet.from_tensors({"x": x})`.
    """


class ResidualUnfit(BytesAndBrainsError, ValueError):
    """A state that is to be loaded was not saved by this codec, or has been changed since.

    Met when a Node is restored. Restore what this codec saved, or begin without a residual.
    """


class RoundNotSaved(BytesAndBrainsError, ValueError):
    """A round is named by a key that cannot be written down.

    The keys of Nodes can; this is met by those who call the component themselves.
    """


class SparseDamaged(BytesAndBrainsError, ValueError):
    """A parameter set is not what this codec has encoded, or has been changed since.

    Decode what `encode` or `compress` returned, with the same codec on both sides.
    """


class SparseTooLarge(BytesAndBrainsError, ValueError):
    """A set is larger than `max_bytes`, or says that it would be once it is decoded.

    A few entries can claim to be of a set of any size, so the limit is what bounds the memory
    that a stranger can ask for.
    """


class UpdateNotFinite(BytesAndBrainsError, ValueError):
    """An update holds NaN or infinity, or became infinite with what former ones left.

    Nothing of it is kept. Look for divergence before the update is encoded.
    """


class UpdateReshaped(BytesAndBrainsError, ValueError):
    """An update has other tensors than those whose rest is kept.

    A codec with error feedback serves one model. Use another slot for another one.
    """
