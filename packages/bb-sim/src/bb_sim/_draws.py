"""Random numbers that depend on their key alone: on the seed, who, to whom, which, and what for.

A draw is a BLAKE2b digest of its key. So what happens to one message does not depend on how many
others there are, on the order in which they are looked at, or on Python's hash seed. All
arithmetic on draws is on whole numbers: it gives the same on every processor.
"""

from __future__ import annotations

import hashlib
import struct
from enum import IntEnum
from typing import Final

__all__ = ["ONE", "Draws", "Purpose", "below", "chance", "heavy"]

#: Draws are whole numbers below this.
ONE: Final = 1 << 64
_KEY: Final = struct.Struct("<Bqqq")
_EIGHT: Final = struct.Struct("<8Q")
#: A heavy tail is cut off at so many times its median.
_LONGEST: Final = 100


class Purpose(IntEnum):
    """What draws are for; each has its own."""

    MESSAGE = 1
    WORK = 2
    PEER = 3
    LIE = 4
    MEMBERS = 5
    CLOCK = 6
    ATTACK = 7


class Draws:
    """The draws of one seed."""

    def __init__(self, seed: int) -> None:
        key = hashlib.blake2b(f"bb.sim.draws\0{seed}".encode(), digest_size=64).digest()
        self._base = hashlib.blake2b(key=key, digest_size=64)

    def at(self, purpose: Purpose, who: int, to: int, number: int) -> tuple[int, ...]:
        """Return the eight numbers of a key, each below `ONE`."""
        digest = self._base.copy()
        digest.update(_KEY.pack(purpose, who, to, number))
        return _EIGHT.unpack(digest.digest())


def chance(draw: int, share: float) -> bool:
    """Tell whether an event of a probability happens."""
    return draw < int(share * ONE)


def below(draw: int, limit: int) -> int:
    """Return a number from 0 to just below `limit`, all alike likely."""
    return draw * limit >> 64


def heavy(draw: int, median: int) -> int:
    """Return a number of a heavy tail: half are below `median`, a tenth above nine times it."""
    return min(median * draw // (ONE - draw), _LONGEST * median)
