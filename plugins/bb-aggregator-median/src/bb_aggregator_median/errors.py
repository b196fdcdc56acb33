"""What this aggregator refuses; every refusal leaves the round as it was."""

from bb_roles.collecting.errors import InvalidSetting
from bb_roles.folding.errors import (
    CohortExceeded,
    MetricsError,
    NothingContributed,
    RoundKeyError,
    UpdateMismatch,
    UpdateOutOfRange,
)

__all__ = [
    "CohortExceeded",
    "InvalidSetting",
    "MetricsError",
    "NothingContributed",
    "RoundKeyError",
    "UpdateMismatch",
    "UpdateOutOfRange",
]
