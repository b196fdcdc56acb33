"""The constants of the fold's rounding trick, which the head of `_grid` explains."""

from __future__ import annotations

from typing import Final

__all__ = ["BIAS", "MAGIC"]

#: A binary64 whose unit in the last place is 1, and its bits.
MAGIC: Final = 1.5 * 2.0**52
BIAS: Final = 0x4338_0000_0000_0000
