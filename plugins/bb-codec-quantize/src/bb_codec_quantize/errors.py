"""What this codec refuses, and why."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = ["EncodingDamaged", "InvalidSetting", "NotParameters", "ValueNotFinite"]


class InvalidSetting(BytesAndBrainsError, ValueError):
    """A field of the configuration is out of its range."""


class NotParameters(BytesAndBrainsError, ValueError):
    """A value is not a parameter set."""


class ValueNotFinite(BytesAndBrainsError, ValueError):
    """A tensor holds NaN or infinity, which no step can stand for."""


class EncodingDamaged(BytesAndBrainsError, ValueError):
    """A parameter set is not what this codec has encoded, or has been changed since."""
