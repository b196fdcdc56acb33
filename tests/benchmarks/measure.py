"""How everything here is measured: CPU time, alternatives interleaved sample by sample.

A sample is the CPU time of this process (`time.process_time`) over as many calls as it takes to
be long against the clock. Alternatives take turns within one run, each turn beginning with another
one, so that whatever the machine does meanwhile happens to all of them. A ratio is the median of
the ratios within the turns. An absolute time says something about one machine on one day; it is
shown, and never a test.
"""

from __future__ import annotations

import gc
import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

__all__ = ["Effort", "Row", "Times", "environment", "interleave", "interleave_scripts", "ratio"]

#: Seconds per call, one number per turn.
Times = list[float]

_PACKAGES = ["bytesandbrains", "numpy", "onnx", "protobuf", "pluggy", "scipy", "numba"]


@dataclass(frozen=True)
class Effort:
    """How hard to measure.

    Attributes:
        samples: Turns of each alternative.
        least: CPU seconds that a sample takes at least.
        smoke: Whether only to see that everything runs: sizes become tiny, figures mean nothing.
    """

    samples: int = 11
    least: float = 0.03
    smoke: bool = False

    def size(self, real: int, tiny: int) -> int:
        """Return a size of the work."""
        return tiny if self.smoke else real


SMOKE = Effort(samples=1, least=0.0, smoke=True)


@dataclass(frozen=True)
class Row:
    """One line of the table in the docs.

    Attributes:
        goal: Its number in the list of goals, or empty.
        what: What was measured.
        bound: What is wanted, in words.
        measured: The figures, in words.
        ratio: Medians against medians of the alternative, in words.
        met: Whether the goal is met; `None` when there is none.
        note: Why it is missed, where that is known.
    """

    goal: str
    what: str
    bound: str
    measured: str
    ratio: str = ""
    met: bool | None = None
    note: str = ""


def interleave(
    calls: Mapping[str, Callable[[], object]],
    effort: Effort,
    *,
    samples: int = 0,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, Times]:
    """Measure alternatives in turns; each runs once before, which warms it up.

    `time.perf_counter` is the clock for what waits, such as for a disk.
    """
    loops = {name: _loops(call, effort.least, clock) for name, call in calls.items()}

    def measure(name: str) -> float:
        return _spent(calls[name], loops[name], clock) / loops[name]

    return _turns(list(calls), measure, samples or effort.samples, effort)


def interleave_scripts(
    scripts: Mapping[str, str], effort: Effort, *, samples: int = 0
) -> dict[str, Times]:
    """Measure Python programs in turns, each in a new interpreter; the first runs do not count.

    All read compiled files, as those that an installer or an earlier run leaves, whatever this
    interpreter was told about writing them.
    """
    with TemporaryDirectory() as folder:
        env = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
        env.pop("PYTHONDONTWRITEBYTECODE", None)

        def measure(name: str) -> float:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            command = [sys.executable, "-c", scripts[name]]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=env)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

        if not effort.smoke:
            for name in scripts:  # writes the compiled files, and reads all from disk
                measure(name)
        return _turns(list(scripts), measure, samples or effort.samples, effort)


def _turns(
    names: list[str], measure: Callable[[str], float], samples: int, effort: Effort
) -> dict[str, Times]:
    times: dict[str, Times] = {name: [] for name in names}
    for turn in range(1 if effort.smoke else samples):
        gc.collect()
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            times[name].append(measure(name))
    return times


def _loops(call: Callable[[], object], least: float, clock: Callable[[], float]) -> int:
    """Return how many calls take long enough; that the first one is slow does not matter."""
    call()
    loops = 1
    while (spent := _spent(call, loops, clock)) < least:
        loops = max(loops + 1, min(10 * loops, int(1.2 * loops * least / max(spent, 1e-9))))
    return loops


def _spent(call: Callable[[], object], loops: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(loops):
        call()
    return clock() - start


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the ratios within the turns."""
    return median(a / b for a, b in zip(ours, theirs, strict=True))


def shown_ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Return a ratio for people: by the medians of the turns, and by the minima."""
    return f"{ratio(ours, theirs):.2f}x ({min(ours) / min(theirs):.2f}x)"


def shown(times: Sequence[float], unit: str, scale: float) -> str:
    """Return a figure for people: median and minimum."""
    return f"{_figure(median(times) * scale)} {unit} (min {_figure(min(times) * scale)})"


def _figure(value: float) -> str:
    """Return four digits, or all of those before the point."""
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:,.4g}"


def environment() -> dict[str, Any]:
    """Describe the machine and what runs on it, without its name."""
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or "unknown")
