"""What this aggregator refuses, and why. Every refusal leaves the round as it was."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = [
    "CohortExceeded",
    "GridTooCoarse",
    "MetricsError",
    "NothingContributed",
    "RoundKeyError",
    "UpdateMismatch",
    "UpdateOutOfRange",
]


class UpdateOutOfRange(BytesAndBrainsError, ValueError):
    """An update holds a value that is not finite or too large for the grid."""


class UpdateMismatch(BytesAndBrainsError, ValueError):
    """An update has other tensors than the first one of its round."""


class MetricsError(BytesAndBrainsError, ValueError):
    """The metrics of an update lack a usable number of examples, or are too many."""


class CohortExceeded(BytesAndBrainsError, ValueError):
    """A round got more updates than the grid was made for."""


class NothingContributed(BytesAndBrainsError, ValueError):
    """A round without any update was to be aggregated."""


class GridTooCoarse(BytesAndBrainsError, ValueError):
    """The configured bounds leave too few bits for the values themselves."""


class RoundKeyError(BytesAndBrainsError, ValueError):
    """A round in flight has a key that cannot be written down."""
