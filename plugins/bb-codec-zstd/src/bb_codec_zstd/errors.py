"""What this codec refuses, and why."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = ["FrameDamaged", "InvalidSetting", "ValueTooLarge", "WrongKind"]


class FrameDamaged(BytesAndBrainsError, ValueError):
    """Bytes are not one whole Zstandard frame of such a value.

    Decode what `encode` returned, with the same `takes` on both sides.
    """


class InvalidSetting(BytesAndBrainsError, ValueError):
    """A field of the configuration is out of its range.

    Met when the codec is built. The error lists what the field can be.
    """


class ValueTooLarge(BytesAndBrainsError, ValueError):
    """A value is larger than the codec may take, or a frame says that its content is.

    The limit is `max_bytes`, before compression. A frame is refused for what it says of itself,
    before any memory is taken.
    """


class WrongKind(BytesAndBrainsError, ValueError):
    """A value is not of the kind that the codec takes: parameters, or bytes.

    The kind is `takes`, so that a program's types are known when it is compiled.
    """
