"""Runs each framework on each size, in turns, each run in a process of its own.

Within a turn every framework does the same before the next size comes, and each turn begins with
another framework, so that what else the machine does happens to all of them. One that cannot be
installed or fails is named with the reason, and the others go on.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peers.frameworks import FRAMEWORKS, NotInstalled, interpreter_of, without_places
from peers.processes import descendants, held_bytes

__all__ = ["CASES", "Plan", "compare"]

_HERE = Path(__file__).parent
#: Clients and parameters.
CASES = ((10, 650), (100, 650), (1_000, 650), (10, 1_000_000), (100, 1_000_000))
_THREADS = ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMBA", "VECLIB_MAXIMUM")
#: How often memory is looked at.
_LOOK_SECONDS = 0.25


@dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes:
        frameworks: Names of those to compare.
        cases: Clients and parameters of each size.
        turns: How often each runs each size.
        warm_up: Rounds of a run before any counts.
        rounds: Rounds that count, at least.
        seconds: How long those take, at least.
        limit: Seconds after which a run is given up.
        environments: Folder of the environments of others.
    """

    frameworks: Sequence[str]
    cases: Sequence[tuple[int, int]]
    turns: int
    warm_up: int
    rounds: int
    seconds: float
    limit: float
    environments: Path


class Failed(Exception):
    """A run did not end well; its text says why."""


def compare(plan: Plan) -> dict[str, Any]:
    """Run the plan, and return all samples as plain data."""
    pythons, missing = _interpreters(plan)
    samples: dict[str, dict[str, list[Any]]] = {name: {} for name in pythons}
    failed: dict[str, dict[str, str]] = {name: {} for name in pythons}
    for name, (clients, count) in _turns(plan, list(pythons)):
        case = f"{clients}x{count}"
        if case in failed[name]:
            continue
        try:
            sample = _run(plan, name, pythons[name], clients, count)
        except Failed as error:
            failed[name][case] = str(error)
            _tell(f"{case} {name}: {error}")
            continue
        samples[name].setdefault(case, []).append(sample)
        cpu = sample["cpu_seconds"] / clients * 1e6
        _tell(f"{case} {name}: {cpu:,.0f} us of CPU per client and round")
    return {
        "cases": [list(case) for case in plan.cases],
        "frameworks": list(plan.frameworks),
        "missing": missing,
        "samples": samples,
        "failed": failed,
    }


def _interpreters(plan: Plan) -> tuple[dict[str, Path], dict[str, str]]:
    found: dict[str, Path] = {}
    missing: dict[str, str] = {}
    for name in plan.frameworks:
        try:
            found[name] = interpreter_of(name, plan.environments)
        except NotInstalled as error:
            missing[name] = str(error)
            _tell(f"{name} is left out: {error}")
    return found, missing


def _turns(plan: Plan, names: list[str]) -> Iterator[tuple[str, tuple[int, int]]]:
    for turn in range(plan.turns):
        first = turn % len(names)
        for case in plan.cases:
            for name in names[first:] + names[:first]:
                yield name, case


def _run(plan: Plan, name: str, python: Path, clients: int, count: int) -> dict[str, Any]:
    """Run one framework once; return its report, with the memory that its processes held."""
    framework = FRAMEWORKS[name]
    with tempfile.TemporaryDirectory(prefix="bb") as folder:
        report, said = Path(folder, "report.json"), Path(folder, "said.txt")
        options = {
            "clients": clients, "count": count, "warm-up": plan.warm_up, "rounds": plan.rounds,
            "seconds": plan.seconds, "report": report, "started": time.time(),
        }  # fmt: skip
        command = [str(python), str(_HERE / framework.script)]
        command += [f"--{key}={value}" for key, value in options.items()]
        command += [f"--option={framework.option}"] if framework.option else []
        load = os.getloadavg()[0]
        with said.open("w") as output:
            process = subprocess.Popen(
                command, env=_environment(name, folder), stdout=output, stderr=output
            )
            peak = _watch(process, plan.limit)
        # A framework may fail to end after its last round: what it reported counts.
        if not report.exists():
            raise Failed(_reason(process, plan, said.read_text(errors="replace")))
        found: dict[str, Any] = json.loads(report.read_text())
    return {**found, "peak_bytes": max(peak, found["peak_bytes"]), "load": load}


def _environment(name: str, folder: str) -> dict[str, str]:
    """Return the variables of a run: one thread for linear algebra, and no word to anybody."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    own = {
        "FLWR_HOME": folder, "FLWR_TELEMETRY_ENABLED": "0",
        "RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0",
    }  # fmt: skip
    if not FRAMEWORKS[name].requirement:
        own["PYTHONPATH"] = str(_HERE.parent)  # the components that do nothing
    return {**kept, **own, **{f"{library}_NUM_THREADS": "1" for library in _THREADS}}


def _watch(process: subprocess.Popen[bytes], limit: float) -> int:
    """Wait for the end; return the most memory that was seen. What takes too long is ended."""
    peak, end = 0, time.monotonic() + limit
    while time.monotonic() < end:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_LOOK_SECONDS)
            return peak
        peak = max(peak, held_bytes(process.pid))
    for pid in [process.pid, *descendants(process.pid)]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    return peak


def _reason(process: subprocess.Popen[bytes], plan: Plan, said: str) -> str:
    if process.returncode == -signal.SIGKILL:
        return f"no end within {plan.limit:g} s, or killed"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = without_places(lines[-1]) if lines else "without a word"
    return f"ended with {process.returncode}: {last}"


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
