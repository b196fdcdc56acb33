"""What Python raises when tables that come from outside are not what their reader takes them for.

A reader of an artifact, a snapshot or a journal checks what would do harm later; all else that can
be wrong in a table shows when it is read. Whoever reads one turns these into an error of ours that
says which table it was. This module must not name errors of ours.
"""

from __future__ import annotations

from typing import Final

from bb_ir.ids import PeerId

__all__ = ["MISREAD", "peer_of", "whole"]

#: Errors that tell of a table, not of the machine; `RecursionError` is one of a table, too.
MISREAD: Final[tuple[type[Exception], ...]] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    StopIteration,
    SyntaxError,
    TypeError,
    ValueError,
)


def whole(value: object) -> int:
    """Return a number of a table that counts or numbers something, and fits into 64 bits.

    Raises:
        ValueError: It is something else.
    """
    if type(value) is int and 0 <= value < 1 << 64:
        return value
    raise ValueError(f"{value!r:.80} instead of a number")


def peer_of(value: object) -> PeerId:
    """Return a peer of a table.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(value, PeerId):
        raise TypeError(f"{type(value).__name__} instead of a peer")
    return value
