"""Krum and multi-Krum: the updates that lie closest to others.

The score of an update is the sum of its squared distances to its n - f - 2 closest others, n being
the number of updates and f that of the attackers among them. Krum returns the update with the
smallest score, multi-Krum the mean of the `select` best ones.

Updates are first put in an order that their bytes alone decide, so that neither the rounding of
distances nor a tie between scores depends on who came first.

Source: Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent",
2017, sections 4 and 6 (proposition 1: n >= 2f + 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cmp_to_key
from typing import Annotated, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from bb_aggregator_krum._distances import squared_distances
from bb_aggregator_krum.errors import TooFewUpdates, UpdateOutOfRange
from bb_ir.params import Draft, ParameterSet
from bb_roles import Environment
from bb_roles.collecting import (
    Combined,
    RoundsAggregator,
    RoundsConfig,
    Update,
    in_range,
    write_mean,
)
from bb_roles.folding import Author
from bb_roles.kernels import Engine
from bb_roles.limits import Limits

__all__ = ["Krum", "KrumConfig"]

#: Largest magnitude whose square, times any number of parameters, is a binary64.
_LARGEST: Final = 2.0**450
#: Bytes that are compared at once, and elements that are averaged at once.
_TILE: Final = 1 << 16


@dataclass(frozen=True)
class KrumConfig(RoundsConfig):
    """How many attackers there may be, how many updates are selected, and limits.

    Attributes:
        cohort: Most updates in a round; so many stay in memory until it ends.
        defer_above: A round of more numbers than this (updates times parameters) is aggregated on
            the host's executor, so that the Node does other work meanwhile; `None` for never.
        attackers: The f of Krum: how many updates of a round may be attackers'. A round needs
            2f + 3 updates.
        select: How many updates are averaged; 1 is Krum, more is multi-Krum. A round needs f more.
        engine: Who computes distances: `numpy`, `numba`, or `auto`: numba for large models where
            it is installed. They agree to about 2**-30.
    """

    attackers: Annotated[int, Limits(0, unit="updates")] = 1
    select: Annotated[int, Limits(1, unit="updates")] = 1
    engine: Engine = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("cohort", self.cohort, 3, 2**20, "Krum compares each update with two others")
        most = (self.cohort - 3) // 2
        why = f"Krum needs 2 * attackers + 3 updates of a cohort, which is {self.cohort} here"
        in_range("attackers", self.attackers, 0, most, f"{why}: lower attackers, or raise cohort")
        most = self.cohort - self.attackers
        why = f"it needs select + attackers updates of a cohort, which is {self.cohort} here"
        fix = f"{why}: lower select or attackers, or raise cohort"
        in_range("select", self.select, 1, most, fix)


class Krum(RoundsAggregator):
    """The update that lies closest to others, or the mean of the best few.

    Every update counts the same, whatever its `examples`: they are what a peer claims. One that
    contributes twice counts twice; a gather takes one reply of each peer.

    All tensors count for the distance, those of integers as well; between equal scores the bytes
    of the updates decide. The result is the same, bit for bit, in any order of arrival. Between
    machines with different BLAS libraries, processors or engines distances may differ by about
    2**-30 of themselves, and the choice then between updates whose scores are as close.

    The mean of several is computed in binary64 and rounded once; that of integers and bools is
    exact, rounded half to even.

    The summary holds `count` and `examples` of all updates, `selected`, and the means of all other
    float metrics, weighted by examples, over the selected updates only. A metric that is not
    finite is left out of its mean; the mean of none is not a number.

    Args:
        config: A `KrumConfig`.
        env: Where it is being built.
    """

    Config: ClassVar[type] = KrumConfig
    own_metrics: ClassVar[tuple[str, ...]] = ("count", "examples", "selected")

    def __init__(self, config: KrumConfig, env: Environment) -> None:
        super().__init__(config, env)
        self._attackers = config.attackers
        self._select = config.select
        self._engine = config.engine

    def _check_values(self, params: ParameterSet, who: Author) -> None:
        super()._check_values(params, who)
        values = params.flat("float64")
        if values.size and max(np.max(values), -np.min(values)) > _LARGEST:
            raise UpdateOutOfRange(
                f"the update of {who} holds values that are too large for distances",
                expected=f"magnitudes of at most {_LARGEST:.3g}",
                fix="look for divergence on that peer",
                where=str(who),
            )

    def _combine(self, updates: Sequence[Update]) -> Combined:
        ordered = sorted(updates, key=cmp_to_key(_compare))
        layout = ordered[0].params.layout
        flats = {dtype: [u.params.flat(dtype) for u in ordered] for dtype in layout.runs}
        distances = squared_distances(list(flats.values()), len(ordered), self._engine)
        best = _best(distances, self._attackers, self._select)
        selected = [ordered[at] for at in best]
        more = {"selected": len(selected)}
        if len(selected) == 1:
            copy = selected[0].params.writable(self._pool, copy=True)
            return Combined(copy.freeze(), selected, more)
        draft = Draft(layout, self._pool)
        for dtype, vectors in flats.items():
            out = draft.flat(dtype)
            for start in range(0, out.size, _TILE):
                tile = slice(start, start + _TILE)
                write_mean([vectors[at][tile] for at in best], out[tile])
        return Combined(draft.freeze(), selected, more)

    def _check_enough(self, count: int, place: str) -> None:
        needed = max(2 * self._attackers + 3, self._attackers + self._select)
        if count < needed:
            raise TooFewUpdates(
                f"{count} updates are too few for attackers={self._attackers} and "
                f"select={self._select}",
                expected=f"at least {needed}: 2 * attackers + 3, and attackers + select",
                fix="let the gather wait for more, or lower attackers or select",
                where=place,
            )


def _best(distances: NDArray[np.float64], attackers: int, select: int) -> list[int]:
    """Return the positions of the smallest scores, ascending; of equal ones the first."""
    closest = len(distances) - attackers - 2
    # The smallest of each row is its distance from itself.
    scores = np.sort(distances, axis=1)[:, 1 : closest + 1].sum(axis=1)
    chosen: list[int] = np.argsort(scores, kind="stable")[:select].tolist()
    return sorted(chosen)


def _compare(one: Update, other: Update) -> int:
    """Order updates by their bytes, then by what else they say."""
    ours, theirs = one.params.image, other.params.image
    for start in range(0, len(ours), _TILE):
        left, right = bytes(ours[start : start + _TILE]), bytes(theirs[start : start + _TILE])
        if left != right:
            return -1 if left < right else 1
    said, heard = _said(one), _said(other)
    return (said > heard) - (said < heard)


def _said(update: Update) -> tuple[int, list[tuple[str, str]]]:
    return update.examples, sorted((name, x.hex()) for name, x in update.metrics.items())
