"""The stop watch of a comparison: the same for each framework, in its own environment.

A framework's script makes a `RoundClock` from its command line, calls `ended` after each round with
what the round averaged, and stops when that returns false. The clock then writes its report. It
needs nothing but the standard library.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from processes import cpu_of_others, own_peak_bytes

__all__ = ["EXAMPLES", "RoundClock"]

#: What each client says that it has trained on.
EXAMPLES = 32


class RoundClock:
    """Measures the rounds of one run.

    Attributes:
        clients: How many clients there are; each takes part in each round.
        count: How many parameters the model has.
    """

    def __init__(self, framework: str, packages: Sequence[str]) -> None:
        parser = argparse.ArgumentParser(description=f"Rounds of federated averaging: {framework}.")
        parser.add_argument("--clients", type=int, required=True)
        parser.add_argument("--count", type=int, required=True, help="parameters of the model")
        parser.add_argument("--warm-up", type=int, default=2, help="rounds before any counts")
        parser.add_argument("--rounds", type=int, default=3, help="rounds that count, at least")
        parser.add_argument("--seconds", type=float, default=1.0, help="how long, at least")
        parser.add_argument("--started", type=float, default=time.time(), help="time of the start")
        parser.add_argument("--report", type=Path, required=True)
        parser.add_argument("--option", action="append", default=[], help="of this framework")
        given = parser.parse_args()
        self.clients: int = given.clients
        self.count: int = given.count
        self.options: list[str] = given.option
        self._given = given
        self._packages = packages
        self._done = 0
        self._first = 0.0
        self._wall: list[float] = []
        self._others = 0.0
        self._cpu = 0.0
        self._last = 0.0

    def ended(self, clients: int, least: float, most: float) -> bool:
        """Take the end of a round; return whether there shall be another one.

        Args:
            clients: How many clients were averaged.
            least: The least parameter of the average.
            most: The largest.
        """
        now, cpu = time.perf_counter(), time.process_time()
        # All begin with parameters from -1 to 1, and no client changes any.
        if clients != self.clients or abs(least + 1) > 1e-3 or abs(most - 1) > 1e-3:
            raise AssertionError(
                f"a round averaged {clients} clients to {least}..{most}, "
                f"not {self.clients} to -1..1"
            )
        self._done += 1
        if self._done == 1:
            self._first = time.time() - self._given.started
        if self._done > self._given.warm_up:
            self._wall.append(now - self._last)
        going = len(self._wall) < self._given.rounds or sum(self._wall) < self._given.seconds
        if not going:
            self._report(cpu - self._cpu + cpu_of_others() - self._others)
        if self._done == self._given.warm_up:  # what the clock does itself does not count
            self._others = cpu_of_others()
            self._cpu = time.process_time()
        self._last = time.perf_counter()
        return going

    def _report(self, cpu: float) -> None:
        versions = dict(_versions(self._packages))
        self._given.report.write_text(
            json.dumps(
                {
                    "first_round_seconds": self._first,
                    "wall_seconds": self._wall,
                    "cpu_seconds": cpu / len(self._wall),
                    "peak_bytes": own_peak_bytes(),
                    "versions": {"python": platform.python_version(), **versions},
                }
            )
        )


def _versions(packages: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield names and versions of those packages that are installed."""
    for name in packages:
        with suppress(importlib.metadata.PackageNotFoundError):
            yield name, importlib.metadata.version(name)
