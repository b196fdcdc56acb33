"""What is compared: rules, attacks, and how the examples are divided; each run is one of `bb sim`.

What a run is stands in its command line alone, so whoever reads the page can run it again.
"""

from __future__ import annotations

import io
import json
import statistics
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any, NamedTuple

from bytesandbrains.cli import main
from bytesandbrains.demo.environment import one_blas_thread

__all__ = [
    "ATTACKS",
    "CLIENTS",
    "DIVISIONS",
    "ROUNDS",
    "RULES",
    "Cell",
    "Curve",
    "cells",
    "command",
]

CLIENTS = 20
ATTACKERS = 4
ROUNDS = 20

#: Robust rules are told how many attackers there are, also where none attack.
RULES: dict[str, tuple[str, ...]] = {
    "fedavg": ("--aggregator", "fedavg"),
    "median": ("--aggregator", "median"),
    "trimmed-mean": ("--aggregator", "trimmed-mean", "--set", f"aggregator.trim={ATTACKERS}"),
    "krum": ("--aggregator", "krum", "--set", f"aggregator.attackers={ATTACKERS}"),
    "multi-krum": (
        "--aggregator", "krum", "--set", f"aggregator.attackers={ATTACKERS}",
        "--set", f"aggregator.select={CLIENTS - ATTACKERS}",
    ),
}  # fmt: skip
ATTACKS: dict[str, tuple[str, ...]] = {
    "none": (),
    **{
        kind: ("--attack", kind, "--attackers", "0.2")
        for kind in ("sign-flip", "gaussian", "label-flip")
    },
}
DIVISIONS: dict[str, tuple[str, ...]] = {
    "even": (),
    "skewed": ("--set", "data.partition=dirichlet", "--set", "data.alpha=0.3"),
}


class Curve(NamedTuple):
    """Accuracies on the held-out examples after each round, of one seed."""

    seed: int
    accuracies: list[float]


class Cell(NamedTuple):
    """All runs of one rule against one attack."""

    division: str
    rule: str
    attack: str
    curves: list[Curve]

    @property
    def last(self) -> list[float]:
        """The accuracy after the last round, by seed."""
        return [curve.accuracies[-1] for curve in self.curves]

    @property
    def mean(self) -> float:
        """The mean of them."""
        return statistics.fmean(self.last)


def command(division: str, rule: str, attack: str, seed: int, rounds: int = ROUNDS) -> list[str]:
    """Return the command line of one run."""
    options = (*RULES[rule], *ATTACKS[attack], *DIVISIONS[division])
    size = ("--peers", str(CLIENTS), "--rounds", str(rounds), "--seed", str(seed))
    return ["sim", "fedavg", *size, *options, "--json"]


def cells(
    seeds: int = 3,
    rounds: int = ROUNDS,
    *,
    divisions: tuple[str, ...] = tuple(DIVISIONS),
    rules: tuple[str, ...] = tuple(RULES),
    attacks: tuple[str, ...] = tuple(ATTACKS),
) -> Iterator[Cell]:
    """Run them all, and give each cell as it is done."""
    for division in divisions:
        for attack in attacks:
            for rule in rules:
                curves = [
                    Curve(seed, _accuracies(command(division, rule, attack, seed, rounds)))
                    for seed in range(seeds)
                ]
                yield Cell(division, rule, attack, curves)


def _accuracies(arguments: list[str]) -> list[float]:
    """Return the accuracy after each round; a round that failed leaves the model as it was."""
    out = io.StringIO()
    with one_blas_thread(), redirect_stdout(out):
        main(arguments, standalone_mode=False)
    told: dict[str, Any] = json.loads(out.getvalue())
    if "errors" in told:
        raise RuntimeError(f"bb {' '.join(arguments)}: {told['errors']}")
    found: list[float] = []
    for one in told["rounds"]:
        test = one["outputs"].get("test")
        found.append(found[-1] if test is None and found else (test or {}).get("accuracy", 0.0))
    return found
