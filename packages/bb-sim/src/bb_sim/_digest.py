"""A digest of all that a run did: equal digests, equal runs.

Every peer has a chain of SHA-256 over its steps and their virtual times. The digest of a run is one
over all chains in the order of the peers, so it does not depend on the order in which the
simulator looks at peers that do not hear of each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from bb_runtime import Step
from bb_runtime.digests import StepDigests

__all__ = ["Chain", "digest_of_run"]


class Chain:
    """What one peer did so far."""

    __slots__ = ("_hash",)

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, when: int, steps: Sequence[Step]) -> None:
        """Add steps that were reported together, at an instant."""
        if not steps:
            return
        digests = StepDigests()
        self._hash.update(when.to_bytes(8, "little") + len(steps).to_bytes(4, "little"))
        for step in steps:
            self._hash.update(digests.of(step))

    def digest(self) -> bytes:
        """Return the digest of all that was added."""
        return self._hash.digest()


def digest_of_run(chains: Iterable[tuple[int, int, bytes]]) -> str:
    """Return the digest of a run, of the number, the life and the chain of each peer."""
    found = hashlib.sha256()
    for number, life, chain in sorted(chains):
        found.update(number.to_bytes(8, "little") + life.to_bytes(8, "little") + chain)
    return found.hexdigest()
