"""What this selector refuses, and why."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = ["CohortError", "InvalidSetting"]


class InvalidSetting(BytesAndBrainsError, ValueError):
    """The peers, their weights and their groups do not fit together, or one is out of its range.

    A peer stands in the list once; weights and groups are as many as peers, in the same order, or
    left out; a weight is a number from 1e-9 to 1e9.
    """


class CohortError(BytesAndBrainsError, ValueError):
    """A cohort of less than one peer is asked for, or there is no peer to draw.

    Give sample(g, n) a size of at least 1, and the slot its `peers`. This Node's own id is no peer
    unless `include_self` says so.
    """
