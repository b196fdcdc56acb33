"""The rules of server optimizers, on plain arrays.

A rule takes the pseudo-gradient d of a round, in the direction in which clients went, updates its
moments, and returns the step from the last global parameters x to the next:

    avgm      m = momentum * m + d                                      x + lr * m
    adagrad   m = beta1 * m + (1 - beta1) * d,  v = v + d**2            x + lr * m / (sqrt(v) + tau)
    yogi      m as above,  v = v - (1 - beta2) * d**2 * sign(v - d**2)  the same
    adam      m as above,  v = beta2 * v + (1 - beta2) * d**2           the same

with m = 0 and v = tau**2 in the beginning, the least that the paper allows. As there, moments are
not corrected for their start. All is binary64, one correctly rounded operation after the other, so
the bits do not depend on the machine.

Sources: Reddi et al., "Adaptive Federated Optimization", 2021, algorithm 2; for avgm Hsu, Qi,
Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
Classification", 2019, with the server's learning rate of the former.

This module knows no rounds and no parameter sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from bb_aggregator_fedopt.errors import InvalidSetting
from bb_roles.limits import Limits

__all__ = ["DECAY", "DEFAULTS", "RULES", "SCALE", "Moments", "Optimizer", "Rule"]

Rule = Literal["avgm", "adagrad", "yogi", "adam"]
_Floats = NDArray[np.float64]

RULES: Final = ("avgm", "adagrad", "yogi", "adam")
#: What each rule reads, and what it is when it is not said.
DEFAULTS: Final[Mapping[str, Mapping[str, float]]] = {
    "avgm": {"lr": 1.0, "momentum": 0.9},
    "adagrad": {"lr": 0.1, "beta1": 0.0, "tau": 1e-3},
    "yogi": {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "tau": 1e-3},
    "adam": {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "tau": 1e-3},
}
#: Of `lr` and `tau`: the square of each is a normal binary64.
SCALE: Final = Limits(1e-150, 1e150)
#: Of what decays, per round.
DECAY: Final = Limits(0, below=1)


@dataclass(frozen=True)
class Moments:
    """What a rule remembers of one vector of parameters; never changed, only replaced.

    Attributes:
        first: The m of the rules, binary64 (n,).
        second: Their v, binary64 (n,); `None` where the rule has none.
    """

    first: _Floats
    second: _Floats | None


class Optimizer:
    """A rule with its settings.

    Args:
        rule: One of `RULES`.
        given: Settings by name; `None` takes the default of the rule.

    Raises:
        InvalidSetting: A setting is out of its range, or is none of the rule's.
    """

    def __init__(self, rule: str, given: Mapping[str, float | None]) -> None:
        if rule not in RULES:
            raise InvalidSetting(
                f"rule is {rule!r}",
                expected=f"one of {', '.join(map(repr, RULES))}",
                fix="choose one of them",
                where="rule",
            )
        settings = dict(DEFAULTS[rule])
        for name, value in given.items():
            if value is not None:
                _check(rule, name, value)
                settings[name] = float(value)
        self.rule = rule
        self.settings: Mapping[str, float] = settings
        self._lr = settings["lr"]
        # FedAvgM's momentum is a sum, the others' is a mean.
        self._decay = settings["momentum"] if rule == "avgm" else settings["beta1"]
        self._share = 1.0 if rule == "avgm" else 1.0 - self._decay
        self._beta2 = settings.get("beta2", 0.0)
        self._tau = settings.get("tau", 0.0)

    def start(self, count: int) -> Moments:
        """Return the moments before the first step of `count` parameters."""
        first = np.zeros(count)
        return Moments(first, None if self.rule == "avgm" else np.full(count, self._tau**2))

    def step(self, gradient: _Floats, moments: Moments) -> tuple[_Floats, Moments]:
        """Return the step that a pseudo-gradient makes, and the moments after it.

        Args:
            gradient: Mean of the updates minus the parameters they began with, binary64 (n,).
            moments: Those after the step before.
        """
        first = self._decay * moments.first + self._share * gradient
        if moments.second is None:
            return self._lr * first, Moments(first, None)
        second = self._second(np.square(gradient), moments.second)
        return self._lr * first / (np.sqrt(second) + self._tau), Moments(first, second)

    def _second(self, square: _Floats, before: _Floats) -> _Floats:
        if self.rule == "adagrad":
            return before + square
        if self.rule == "yogi":
            return before - (1.0 - self._beta2) * square * np.sign(before - square)
        return self._beta2 * before + (1.0 - self._beta2) * square


def _check(rule: str, name: str, value: float) -> None:
    if name not in DEFAULTS[rule]:
        raise InvalidSetting(
            f"{name} is {value!r}, and the rule {rule!r} has no {name}",
            expected=f"of {rule!r} only {', '.join(DEFAULTS[rule])}",
            fix=f"leave {name} out, or choose another rule",
            where=name,
        )
    limits = SCALE if name in ("lr", "tau") else DECAY
    if not limits.allow(value):
        raise InvalidSetting(
            f"{name} is {value!r}",
            expected=f"a number, {limits}",
            fix=f"leave it out: the default of {rule!r} is {DEFAULTS[rule][name]:g}",
            where=name,
        )
