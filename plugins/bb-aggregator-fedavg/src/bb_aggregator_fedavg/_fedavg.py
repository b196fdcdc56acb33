"""Federated averaging: the mean of updates, weighted by their examples.

How it is folded is said in `bb_roles.folding`.

Source: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized
Data", 2017, without the sampling, which is the program's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bb_roles.folding import FoldConfig, WeightedMean

__all__ = ["FedAvg", "FedAvgConfig"]


@dataclass(frozen=True)
class FedAvgConfig(FoldConfig):
    """Bounds that fix the grid before the first update; all who fold together need the same."""


class FedAvg(WeightedMean):
    """The mean of all updates of a round, weighted by `metrics["examples"]`.

    Floats of any width are averaged on a grid of 2**-k, k = 62 - ceil(log2(cohort * weight_max *
    value_max)): the mean is at most 2**-(k+1) off, plus its own rounding. Integers and bools get
    the exact mean, rounded half to even.

    The summary holds `count`, `examples`, and the weighted means of all other float metrics. A
    metric that is not finite is left out of its mean; the mean of none is not a number.

    Args:
        config: A `FedAvgConfig`.
        env: Where it is being built.

    Raises:
        GridTooCoarse: The bounds leave the grid fewer than 24 bits below the point, or one of
            them is out of its own range.
    """

    Config: ClassVar[type] = FedAvgConfig
