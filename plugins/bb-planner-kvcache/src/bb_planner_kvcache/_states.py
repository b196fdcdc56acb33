"""What can become of a row of a request."""

from __future__ import annotations

from typing import Final

__all__ = [
    "COLD", "HELD", "LATE", "LIMIT", "MET", "OVERLAP", "PARTIAL", "QUOTA", "RANGE", "REASONS",
    "ROUTE", "SMALL", "TENANT",
]  # fmt: skip

MET, HELD, COLD, LATE, ROUTE, RANGE, OVERLAP, TENANT, SMALL, QUOTA, LIMIT, PARTIAL = range(12)

#: What becomes of a row, by number; from 2 on it is rejected, for this reason.
REASONS: Final = (
    "met", "held", "cold", "late", "route", "range", "overlap", "tenant", "small", "quota",
    "limit", "partial",
)  # fmt: skip
