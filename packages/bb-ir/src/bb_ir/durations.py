"""Durations as people write them. Durations are nanoseconds everywhere inside."""

from __future__ import annotations

import re
from fractions import Fraction

__all__ = ["format_duration", "parse_duration"]

_UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_TEXT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(ns|us|ms|s|m|h)\s*")


def parse_duration(text: str) -> int:
    """Return the nanoseconds of a text such as `"30s"`, `"1.5m"` or `"250ms"`.

    Raises:
        ValueError: The text is not a positive duration.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError("a number with one of the units ns, us, ms, s, m, h, such as '30s'")
    nanoseconds = int(Fraction(match[1]) * _UNITS[match[2]])
    if nanoseconds <= 0:
        raise ValueError("a duration longer than nothing")
    return nanoseconds


def format_duration(nanoseconds: int) -> str:
    """Return the shortest text of a duration, in the largest unit that keeps it exact."""
    for unit in ("h", "m", "s", "ms", "us"):
        if nanoseconds % _UNITS[unit] == 0 and nanoseconds >= _UNITS[unit]:
            return f"{nanoseconds // _UNITS[unit]}{unit}"
    return f"{nanoseconds}ns"
