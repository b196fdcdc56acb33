"""What this aggregator refuses, and why. Every refusal leaves the round as it was."""

from bb_roles.folding.errors import (
    CohortExceeded,
    GridTooCoarse,
    MetricsError,
    NothingContributed,
    RoundKeyError,
    UpdateMismatch,
    UpdateOutOfRange,
)

__all__ = [
    "CohortExceeded",
    "GridTooCoarse",
    "MetricsError",
    "NothingContributed",
    "RoundKeyError",
    "UpdateMismatch",
    "UpdateOutOfRange",
]
