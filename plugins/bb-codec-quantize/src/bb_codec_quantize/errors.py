"""What this codec refuses, and why."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = ["EncodingDamaged", "InvalidSetting", "NotParameters", "ValueNotFinite"]


class InvalidSetting(BytesAndBrainsError, ValueError):
    """A field of the configuration is out of its range.

    Met when the codec is built. The error lists what the field can be.
    """


class NotParameters(BytesAndBrainsError, ValueError):
    """A value that is to be encoded is no parameter set.

    The codec quantizes parameters. Put single tensors into a set:
    `ParameterSet.from_tensors({"x": x})`.
    """


class ValueNotFinite(BytesAndBrainsError, ValueError):
    """A tensor holds NaN or infinity, which no step can stand for.

    Look for divergence before the set is encoded.
    """


class EncodingDamaged(BytesAndBrainsError, ValueError):
    """A parameter set is not what this codec has encoded, or has been changed since.

    Decode what `encode` returned, with the same codec on both sides.
    """
