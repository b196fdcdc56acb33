"""What is refused besides requests; those are refused with `UnplannableRequest`."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = ["BadColumn", "InvalidWave"]


class BadColumn(BytesAndBrainsError, ValueError):
    """An array, or a number beside it, is none that the function can work on.

    Met by those who call the simulator, or the functions on prefixes, blocks and waves. The error
    says what the array shall be.
    """


class InvalidWave(BytesAndBrainsError, ValueError):
    """A wave cannot be run: its tiles are of no known form, or its swap window is empty.

    Met by those who make waves or read them from elsewhere. Take the tiles that the error lists.
    """
