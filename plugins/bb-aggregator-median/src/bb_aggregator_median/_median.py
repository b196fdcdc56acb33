"""The coordinate-wise median of updates.

Each parameter of the result is the median of that parameter over all updates; of an even number
of updates it is the mean of the two in the middle. As long as fewer than half of the updates are
attackers', each parameter lies between values that honest peers sent.

Source: Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates",
2018, definition 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bb_ir.params import Draft
from bb_roles.collecting import Combined, RoundsAggregator, RoundsConfig, Update, ranked_tiles

__all__ = ["Median", "MedianConfig"]


@dataclass(frozen=True)
class MedianConfig(RoundsConfig):
    """How many updates a round may have, and when to leave the engine's thread.

    Attributes:
        cohort: Most updates in a round; so many stay in memory until it ends.
        defer_above: A round of more numbers than this (updates times parameters) is aggregated on
            the host's executor, so that the Node does other work meanwhile; `None` for never.
    """


class Median(RoundsAggregator):
    """The median of each parameter over all updates of a round.

    Every update counts the same, whatever its `examples`: they are what a peer claims. One that
    contributes twice counts twice; a gather takes one reply of each peer.

    Of an even number of updates the mean of the middle two is rounded once to the dtype; integers
    and bools are rounded half to even. A zero is always the positive one. The result is the same,
    bit for bit, in any order of arrival, because ranks are.

    The summary holds `count`, `examples`, and the means of all other float metrics, weighted by
    examples and over all updates: what attackers claim is in them. A metric that is not finite is
    left out of its mean; the mean of none is not a number.

    Args:
        config: A `MedianConfig`.
        env: Where it is being built.
    """

    Config: ClassVar[type] = MedianConfig

    def _combine(self, updates: Sequence[Update]) -> Combined:
        layout = updates[0].params.layout
        draft = Draft(layout, self._pool)
        for dtype in layout.runs:
            vectors = [update.params.flat(dtype) for update in updates]
            _write_median(vectors, draft.flat(dtype))
        return Combined(draft.freeze(), updates, {})

    def _check_enough(self, count: int, place: str) -> None:
        """A single update is its own median."""


def _write_median(vectors: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
    count = len(vectors)
    for tile, rows in ranked_tiles(vectors, sorted({(count - 1) // 2, count // 2})):
        out[tile] = _middle(rows[0], rows[-1]) if len(rows) == 2 else rows[0]
        if out.dtype.kind not in "iub":
            out[tile] += out.dtype.type(0.0)  # makes a negative zero positive


def _middle(low: NDArray[Any], high: NDArray[Any]) -> NDArray[Any]:
    """Return the mean of two arrays, of which the first is nowhere larger."""
    if low.dtype.kind in "iu":
        # Common bits and half of the others: the sum itself could overflow.
        odd = low ^ high
        below: NDArray[Any] = (low & high) + (odd >> 1)
        np.add(below, odd & below & 1, out=below)
        return below
    middle: NDArray[Any]
    with np.errstate(over="ignore"):
        middle = np.add(low, high, dtype=np.float64) * 0.5
    wrong = ~np.isfinite(middle)
    if wrong.any():  # the sum of two large float64 overflowed; their halves lose nothing
        middle[wrong] = low[wrong] * 0.5 + high[wrong] * 0.5
    return middle
