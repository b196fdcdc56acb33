"""What a chain refuses, and why."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = ["ChainMisfit", "ChainStateMisfit"]


class ChainMisfit(BytesAndBrainsError, ValueError):
    """Codecs cannot be put in a row like this.

    One does not take what the one before it gives, or cannot stand in a chain at all: it needs
    other slots, or defers its work.
    """


class ChainStateMisfit(BytesAndBrainsError, ValueError):
    """A state that is to be loaded is of another chain, or has been changed since.

    Met when a Node is restored. Configure the codecs with which it was saved.
    """
