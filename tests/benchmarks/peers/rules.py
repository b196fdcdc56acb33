"""Writes what was compared with Flower's strategies as a section of `docs/benchmarks.md`."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Any

from measure import Row, Times, ratio, shown_ratio

__all__ = ["rows", "section"]

_HEAD = """\
## Beside Flower's strategies

`nox -s bench-flwr`

Whole rounds of our aggregators and of Flower's strategies of the same rules, in turns in one
process on the same updates of float32, on one core. Speed is that of the bytes of the updates per
second of CPU. A strategy gets replies as Flower's server hands them over: serialized arrays, which
it reads. A function is what Flower's older strategies call with arrays that are read already; the
optimizers have none. A ratio is Flower's time over ours. That the results are the same, to 1e-6,
`nox -s equal-flwr` tests.

"""
_COLUMNS = (
    "| Rule | Updates | Ours | Reading them once | Flower's strategy | | Its function | |\n"
    "|---|---|---|---|---|---|---|---|\n"
)
#: What is wanted: the goal, the rule with the size, how many times faster.
_GOALS = (
    ("G8", "fedavg 100x1000000", 2.2),
    ("G8", "fedavg 10x25000000", 4.0),
    ("G9", "krum 20x1000000", 6.0),
    ("G9", "median 20x1000000", 5.0),
    ("G9", "trimmed-mean 20x1000000", 4.0),
)
_NOTES = {
    "fedavg": "For the same bits in any order each parameter has a sum of 8 bytes, which is read "
    "and written with each update, and at this size from memory.",
    "krum": "Flower's strategy is one product of float32 matrices, in which the digits are lost "
    "where updates lie close together: of updates that differ by a thousandth of their numbers it "
    "chose the right one in 3 of 10 trials, ours in all. Ours centres them and multiplies float64, "
    "in a third of the time with numba.",
}


def section(found: dict[str, Any]) -> str:
    """Return the section.

    Args:
        found: What `flwr.json` holds.
    """
    about, result = found["about"], found["result"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    loads = [about["load"][when][0] for when in ("before", "after")]
    told = f"Measured on {about['date']} with {versions}"
    told += ", only to see that it runs: the figures mean nothing" if about["smoke"] else ""
    told += f"; load average {min(loads):.1f} to {max(loads):.1f}"
    lines = "".join(_line(case, times) for case, times in result["cases"].items())
    goals = "".join(_goal(row) for row in rows(found))
    return f"{_HEAD}{told}.\n\n{_COLUMNS}{lines}\n{goals}"


def rows(found: dict[str, Any]) -> list[Row]:
    """Return the goals; each is meant against Flower's strategy and against its function."""
    return list(_rows(found["result"]["cases"]))


def _rows(cases: dict[str, dict[str, Times]]) -> Iterator[Row]:
    for goal, case, bound in _GOALS:
        if case not in cases:
            continue
        times, (rule, updates) = cases[case], _parts(case)
        pairs = [(times[who], times["ours"]) for who in ("strategy", "function")]
        yield Row(
            goal,
            f"a round of {updates} parameters, {rule}: Flower's strategy and its function against "
            "ours",
            f"at least {bound:g}x",
            "",
            " and ".join(shown_ratio(*pair) for pair in pairs),
            min(ratio(*pair) for pair in pairs) >= bound,
            _NOTES.get(rule, ""),
        )


def _line(case: str, times: dict[str, Times]) -> str:
    rule, updates = _parts(case)
    clients, count = map(int, case.split()[1].split("x"))
    nbytes, cells = 4e-9 * clients * count, [rule, updates]
    for who in ("ours", "read", "strategy", "function"):
        own = times.get(who)
        cells.append(_speed(nbytes, own) if own else "none")
        if who in ("strategy", "function"):
            cells.append(shown_ratio(own, times["ours"]) if own else "")
    return f"| {' | '.join(cells)} |\n"


def _parts(case: str) -> tuple[str, str]:
    rule, size = case.split()
    clients, count = map(int, size.split("x"))
    return rule, f"{clients} x {count:,}"


def _speed(nbytes: float, times: Times) -> str:
    return f"{nbytes / median(times):.2f} GB/s (max {nbytes / min(times):.2f})"


def _goal(row: Row) -> str:
    met = "met" if row.met else "**missed**"
    note = f" {row.note}" if row.note and not row.met else ""
    return f"- {row.goal}, {row.what}: {row.ratio}, wanted {row.bound}: {met}.{note}\n"
