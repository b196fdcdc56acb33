"""What can go wrong around plans. An error's code is the name of its class."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = ["PlansError"]


class PlansError(BytesAndBrainsError):
    """Something around plans failed; nothing was half done.

    What all errors of `bb_plans` are kinds of; it is caught, never raised itself.
    """
