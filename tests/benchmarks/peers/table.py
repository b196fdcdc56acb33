"""Writes what was compared as a section of `docs/benchmarks.md`; measures nothing."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Any, NamedTuple

from measure import Row, Times, ratio, shown, shown_ratio

from peers.frameworks import FRAMEWORKS

__all__ = ["rows", "section"]

_OURS = "ours"
_HEAD = """\
## Beside other simulators

`nox -s bench-peers`

Federated averaging in which all clients take part in every round, and each gives its parameters
back as they came, with a number of examples: what is left is the framework. Each run is a process
of its own, in an environment of its framework; they take turns. CPU is that of the process and of
all that it started, memory what these hold together at most. Flower works on as many cores as
there are and sleeps between looks at its mail, which its time on the clock shows; its clients give
back the record that they got without making arrays of it. pfl backs the model up and sets it back
for each client, as its own models do. Ours is shown twice: with the digest of all steps, which is
the default and which the others do not have, and without it. A ratio is a framework's time over
that of our default.

"""
_COLUMNS = (
    "| Clients x parameters | Framework | CPU per client and round | | Clock per round | "
    "| Most memory | First round after |\n|---|---|---|---|---|---|---|---|\n"
)


class _Goal(NamedTuple):
    """How many times faster ours shall be, by the name of the other one."""

    goal: str
    case: str
    other: str
    bound: float


_GOALS = (
    _Goal("G4", "1000x650", "pfl", 6),
    _Goal("G4", "1000x650", "flower", 400),
    _Goal("G6", "100x1000000", "pfl", 3),
    _Goal("G6", "100x1000000", "flower", 50),
)


def section(found: dict[str, Any]) -> str:
    """Return the section.

    Args:
        found: What `peers.json` holds.
    """
    result, about = found["result"], found["about"]
    lines = [_line(result, case, name) for case in _cases(result) for name in result["frameworks"]]
    loads = [sample["load"] for runs in _runs(result) for sample in runs]
    told = f"Measured on {about['date']} with {_versions(result)}"
    if about["smoke"]:
        told += ", only to see that it runs: the figures mean nothing"
    if loads:
        told += f"; load average {min(loads):.1f} to {max(loads):.1f}"
    goals = "".join(_goal(row) for row in rows(found))
    return f"{_HEAD}{told}.\n\n{_COLUMNS}{''.join(lines)}\n{goals}{_left_out(result)}"


def rows(found: dict[str, Any]) -> list[Row]:
    """Return the goals that the project set itself; each holds for CPU and for the clock."""
    return [row for goal in _GOALS if (row := _row(found["result"], goal))]


def _row(result: dict[str, Any], goal: _Goal) -> Row | None:
    ours, theirs = (result["samples"].get(n, {}).get(goal.case) for n in (_OURS, goal.other))
    if not ours or not theirs:
        return None
    turns = min(len(ours), len(theirs))  # a run may have failed in one of them
    pairs = [(of(theirs)[:turns], of(ours)[:turns]) for of in (_cpu, _clock)]
    size = f"{goal.case.replace('x', ' clients with ')} parameters"
    return Row(
        goal.goal,
        f"a round of {size}, {FRAMEWORKS[goal.other].label} against ours",
        f"at least {goal.bound:g}x, on the CPU and on the clock",
        "",
        " and ".join(shown_ratio(*pair) for pair in pairs),
        min(ratio(*pair) for pair in pairs) >= goal.bound,
    )


def _line(result: dict[str, Any], case: str, name: str) -> str:
    clients, count = map(int, case.split("x"))
    cells = [f"{clients:,} x {count:,}", FRAMEWORKS[name].label]
    runs = result["samples"].get(name, {}).get(case)
    if not runs:
        why = "not installed" if name in result["missing"] else "failed"
        return f"| {' | '.join([*cells, why])} | | | | | |\n"
    ours = result["samples"].get(_OURS, {}).get(case, []) if name != _OURS else []
    cells += [
        shown(_cpu(runs), "us", 1e6 / clients),
        _against(_cpu(runs), _cpu(ours)),
        shown(_clock(runs), "ms", 1e3),
        _against(_clock(runs), _clock(ours)),
        f"{max(run['peak_bytes'] for run in runs) / 2**20:,.0f} MiB",
        f"{median(run['first_round_seconds'] for run in runs):.1f} s",
    ]
    return f"| {' | '.join(cells)} |\n"


def _against(theirs: Times, ours: Times) -> str:
    turns = min(len(theirs), len(ours))
    return shown_ratio(theirs[:turns], ours[:turns]) if turns else ""


def _cpu(runs: list[Any]) -> Times:
    return [run["cpu_seconds"] for run in runs]


def _clock(runs: list[Any]) -> Times:
    """Return the middle of the rounds of each run."""
    return [median(run["wall_seconds"]) for run in runs]


def _goal(row: Row) -> str:
    met = "met" if row.met else "**missed**"
    return f"- {row.goal}, {row.what}: {row.ratio}, wanted {row.bound}: {met}.\n"


def _left_out(result: dict[str, Any]) -> str:
    """Say who is missing, and why."""
    told = [f"- {FRAMEWORKS[n].label} is left out: {why}\n" for n, why in result["missing"].items()]
    told += [
        f"- {FRAMEWORKS[name].label} did not run with {case}: {why}\n"
        for name, cases in result["failed"].items()
        for case, why in cases.items()
    ]
    return "".join(told)


def _cases(result: dict[str, Any]) -> list[str]:
    return [f"{clients}x{count}" for clients, count in result["cases"]]


def _runs(result: dict[str, Any]) -> Iterator[list[Any]]:
    for cases in result["samples"].values():
        yield from cases.values()


def _versions(result: dict[str, Any]) -> str:
    """Return the versions that the runs told, each once."""
    told: dict[str, None] = {}
    for runs in _runs(result):
        for name, version in runs[0]["versions"].items():
            told[f"{name} {version}"] = None
    return ", ".join(told) or "nothing that ran"
