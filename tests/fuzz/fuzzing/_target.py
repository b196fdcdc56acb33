"""What is fuzzed: a target reads bytes from outside, and only errors of ours may come out.

A target is three functions. `seeds` makes inputs that are taken, by code, so that nothing binary is
committed. `mutate` changes an input so that checksums and lengths fit again: random bytes would
never get past them. `check` hands an input in and tells what became of it.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

from bb_ir.errors import BytesAndBrainsError

__all__ = ["Finding", "Mutate", "Target", "Tweak"]

#: Changes some bytes, in any way.
Tweak = Callable[[bytes], bytes]
#: Changes an input of a target, so that it is still worth reading.
Mutate = Callable[[bytes, Random, Tweak], bytes]


class Finding(AssertionError):
    """An input does what no input may."""


@dataclass(frozen=True)
class Target:
    """One reader of bytes from outside.

    Attributes:
        name: As the command line names it.
        seeds: Makes inputs that are taken.
        mutate: Changes an input.
        read: Hands an input in. Returns a word on what became of it, empty when it was taken
            whole. Raises an error of ours when it was refused; anything else is a finding.
        memory: How many bytes may be allocated for each byte of input.
        base: How many bytes may be allocated whatever the input is.
        longest: Bytes of input beyond which nothing new is expected.
        taken: Words of `read` that mean that an input was taken.
    """

    name: str
    seeds: Callable[[], Sequence[bytes]]
    mutate: Mutate
    read: Callable[[bytes], str]
    memory: int = 200
    base: int = 4 << 20
    longest: int = 1 << 14
    taken: frozenset[str] = frozenset({""})

    def check(self, data: bytes, *, measure: bool = False) -> str:
        """Hand an input in, and return what became of it: a code, or nothing when it was taken.

        Args:
            data: The input.
            measure: Whether to measure what is allocated, which takes three times as long.

        Raises:
            Exception: Any error that is not one of ours: a finding.
        """
        if measure:
            return self._measured(data)
        try:
            return self.read(data)
        except Finding:
            raise
        except BytesAndBrainsError as error:
            str(error)  # must be possible to print, too
            return error.code

    def _measured(self, data: bytes) -> str:
        _warm(self)
        tracemalloc.start()
        try:
            told = self.check(data)
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        allowed = self.base + self.memory * len(data)
        if most > allowed:
            raise Finding(f"{most:,} bytes are allocated for an input of {len(data):,}")
        return told


@cache
def _warm(target: Target) -> None:
    """Import and remember what is imported late and remembered for good; no input pays for it."""
    for one in target.seeds():
        target.check(one)
