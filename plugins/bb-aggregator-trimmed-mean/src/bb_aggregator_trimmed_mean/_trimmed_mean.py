"""The coordinate-wise trimmed mean of updates.

For each parameter the `trim` largest and the `trim` smallest values are cut off, and the others
are averaged. As long as at most `trim` updates are attackers', each parameter lies between values
that honest peers sent.

Source: Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates",
2018, definition 2, with a number of updates for the fraction that is cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from bb_aggregator_trimmed_mean.errors import TooFewUpdates
from bb_ir.params import Draft
from bb_roles import Environment
from bb_roles.collecting import (
    Combined,
    RoundsAggregator,
    RoundsConfig,
    Update,
    in_range,
    ranked_tiles,
    write_mean,
)
from bb_roles.limits import Limits

__all__ = ["TrimmedMean", "TrimmedMeanConfig"]


@dataclass(frozen=True)
class TrimmedMeanConfig(RoundsConfig):
    """How much is cut off, how many updates a round may have, and when to leave the thread.

    Attributes:
        cohort: Most updates in a round; so many stay in memory until it ends.
        defer_above: A round of more numbers than this (updates times parameters) is aggregated on
            the host's executor, so that the Node does other work meanwhile; `None` for never.
        trim: How many values are cut off at each end: so many attackers are tolerated. A round
            needs more than twice as many updates. With 0 it is the plain mean.
    """

    trim: Annotated[int, Limits(0, unit="updates")] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        most = (self.cohort - 1) // 2
        why = f"more than 2 * trim updates of a cohort are needed, which is {self.cohort} here"
        in_range("trim", self.trim, 0, most, f"{why}: lower trim, or raise cohort")


class TrimmedMean(RoundsAggregator):
    """The mean of each parameter without its `trim` largest and `trim` smallest values.

    Every update counts the same, whatever its `examples`: they are what a peer claims. One that
    contributes twice counts twice; a gather takes one reply of each peer.

    Floats are added in binary64 from the smallest to the largest, so the result is the same, bit
    for bit, in any order of arrival, and lies within the values that were kept. Integers and bools
    get the exact mean, rounded half to even. A zero is always the positive one.

    The summary holds `count`, `examples`, and the means of all other float metrics, weighted by
    examples and over all updates: what attackers claim is in them. A metric that is not finite is
    left out of its mean; the mean of none is not a number.

    Args:
        config: A `TrimmedMeanConfig`.
        env: Where it is being built.
    """

    Config: ClassVar[type] = TrimmedMeanConfig

    def __init__(self, config: TrimmedMeanConfig, env: Environment) -> None:
        super().__init__(config, env)
        self._trim = config.trim

    def _combine(self, updates: Sequence[Update]) -> Combined:
        layout = updates[0].params.layout
        draft = Draft(layout, self._pool)
        kept = range(self._trim, len(updates) - self._trim)
        for dtype in layout.runs:
            out = draft.flat(dtype)
            for tile, rows in ranked_tiles([u.params.flat(dtype) for u in updates], kept):
                write_mean(rows, out[tile])
        return Combined(draft.freeze(), updates, {})

    def _check_enough(self, count: int, place: str) -> None:
        if count <= 2 * self._trim:
            raise TooFewUpdates(
                f"{count} updates cannot be trimmed by {self._trim} at each end",
                expected=f"at least {2 * self._trim + 1} updates",
                fix="let the gather wait for more, or lower trim in the configuration",
                where=place,
            )
