"""The accounts of one run: what models handed out, and what became of every update.

Parts write into it; it decides nothing. Rounds are told apart by who ran them and by their frame,
which is unique for ever. `checks` says what must add up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from bb_ir.ids import PeerId
from bb_ir.params import ParameterSet
from bb_runtime import FrameId
from bb_runtime.digests import value_digest

__all__ = ["Fold", "Ledger", "Part", "current", "keeping"]


class Part(NamedTuple):
    """One update that an aggregator took.

    Attributes:
        sender: Whose message it came with.
        digest: Of the parameters.
        weight: What it counts.
        w: The numbers.
    """

    sender: PeerId | None
    digest: bytes
    weight: int
    w: np.ndarray[Any, Any]


@dataclass
class Fold:
    """What became of one round of one aggregator.

    Attributes:
        parts: The updates it took.
        sums: How often the round was aggregated.
        abandoned: How often the aggregator was told that the round is over.
        wrong: What does not hold, noted while it happened.
    """

    parts: list[Part] = field(default_factory=list[Part])
    sums: int = 0
    abandoned: int = 0
    wrong: list[str] = field(default_factory=list[str])


class Ledger:
    """The accounts of one run.

    Attributes:
        folds: By peer and round.
        made: What each peer's models handed out, by digest.
        loaded: Peer -> the numbers that its model took over from a round of its own, in order.
    """

    def __init__(self) -> None:
        self.folds: dict[tuple[PeerId, FrameId], Fold] = {}
        self.made: dict[PeerId, set[bytes]] = {}
        self.loaded: dict[PeerId, list[tuple[FrameId, np.ndarray[Any, Any]]]] = {}
        self._stamps: Counter[PeerId] = Counter()

    def stamp(self, peer: PeerId) -> np.ndarray[Any, Any]:
        """Return numbers that no other value carries: none of this peer's, and no other peer's."""
        self._stamps[peer] += 1
        tag = int.from_bytes(peer.raw[-2:], "little") / 64  # below what an aggregator takes
        return np.array([float(self._stamps[peer]), tag])

    def make(self, peer: PeerId, params: ParameterSet) -> ParameterSet:
        """Note what a model hands out."""
        self.made.setdefault(peer, set()).add(value_digest(params))
        return params

    def fold(self, peer: PeerId, number: FrameId) -> Fold:
        """Return the account of a round."""
        return self.folds.setdefault((peer, number), Fold())

    def contribute(
        self, peer: PeerId, number: FrameId, sender: PeerId | None, params: Any, weight: int
    ) -> None:
        """Note an update that an aggregator took, all of it."""
        fold = self.fold(peer, number)
        if fold.sums or fold.abandoned:
            fold.wrong.append("took an update after its end, so that is lost")
        fold.parts.append(Part(sender, value_digest(params), weight, np.array(params["w"])))

    def aggregate(
        self, peer: PeerId, number: FrameId, mean: ParameterSet, count: int, *, off: float
    ) -> None:
        """Note that a round was aggregated, and compare with what was contributed.

        Args:
            peer: Whose aggregator.
            number: Which round.
            mean: What came of it.
            count: How many updates it says are in it.
            off: By how much the mean may be off.
        """
        fold = self.fold(peer, number)
        fold.sums += 1
        if count != len(fold.parts):
            fold.wrong.append(f"folded {count} of {len(fold.parts)} updates that it took")
        shapes = {part.w.shape for part in fold.parts}
        if len(shapes) != 1:
            fold.wrong.append(f"folded tensors of the shapes {sorted(shapes)}")
            return
        total = sum(part.weight for part in fold.parts)
        with np.errstate(all="ignore"):  # a liar's numbers may be anything
            wanted = sum(part.w * (part.weight / total) for part in fold.parts)
        found = np.asarray(mean["w"])
        if not np.allclose(found, wanted, rtol=1e-9, atol=off, equal_nan=True):
            fold.wrong.append(f"folded {found.tolist()} where {np.asarray(wanted).tolist()} is due")

    def load(self, peer: PeerId, number: FrameId, w: Any) -> None:
        """Note that a model took over what a round of its own peer brought."""
        self.loaded.setdefault(peer, []).append((number, np.array(w)))


_LEDGER: ContextVar[Ledger] = ContextVar("ledger")


def current() -> Ledger:
    """Return the accounts of the run that goes on; outside of one, some that nobody reads."""
    return _LEDGER.get(None) or Ledger()


@contextmanager
def keeping(ledger: Ledger) -> Iterator[Ledger]:
    """Let the parts of a run write into a ledger."""
    token = _LEDGER.set(ledger)
    try:
        yield ledger
    finally:
        _LEDGER.reset(token)
