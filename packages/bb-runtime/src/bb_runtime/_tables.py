"""Fields of the tables that stand as JSON in an artifact, each checked for its kind.

What is missing or of another kind raises `LookupError` or `ValueError`; whoever reads the artifact
says so in an error of ours. This module knows nothing of what the fields mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

__all__ = ["slots_of", "text_of", "truth_of", "whole_of"]

Row = Mapping[str, Any]


def text_of(row: Row, name: str) -> str:
    """Return a field that is a text."""
    found = row[name]
    if type(found) is str:
        return found
    raise _wrong(name, found)


def truth_of(row: Row, name: str) -> bool:
    """Return a field that is true or false."""
    found = row[name]
    if type(found) is bool:
        return found
    raise _wrong(name, found)


def whole_of(row: Row, name: str, default: int | None = None) -> int:
    """Return a field that is a number of 64 bits and not negative."""
    found = row[name] if default is None else row.get(name, default)
    if type(found) is int and 0 <= found < 1 << 63:
        return found
    raise _wrong(name, found)


def slots_of(table: object) -> dict[str, dict[str, str]]:
    """Return what was declared about each slot."""
    if not isinstance(table, dict):
        raise _wrong("slots", table)
    rows = cast("dict[str, object]", table)
    return {slot: _texts_in(slot, row) for slot, row in rows.items()}


def _texts_in(slot: str, row: object) -> dict[str, str]:
    if not isinstance(row, dict):
        raise _wrong(slot, row)
    found = cast("dict[str, Any]", row)
    return {name: text_of(found, name) for name in found}


def _wrong(name: str, found: object) -> ValueError:
    return ValueError(f"{name} is {found!r}"[:200])
