"""How fast each aggregator takes a round in: its own rule, from the first update to the result.

Speed is that of the updates' bytes, per second of CPU, against reading the same bytes once: their
sum of squares by BLAS, which is bound by memory and by nothing else. How it compares with Flower's
strategies, `nox -s bench-flwr` tells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from measure import Effort, Row, Times, interleave, ratio
from scipy.linalg.blas import sdot

from bb_ir.params import ParameterSet
from bb_roles.registry import bound_class
from bb_testing import FakeContext, environment

__all__ = ["RULES", "Rule", "drawn", "ours", "read_once", "speeds"]

_EXAMPLES = 100
_SIZES = ((20, 1_000_000), (100, 1_000_000), (10, 25_000_000))
_FOLDS = ("fedavg",)
_NUMPY = "fedavg without numba"
_NOTE = (
    "For the same bits in any order each parameter has a sum of 8 bytes, which is read and written "
    "with each update: 20 bytes move for 4 that come in. Folding four updates in one pass would "
    "keep three of them, and read each twice, as it is checked when it comes: tried, that is 1.3 "
    "times as fast with 25 M, and not at all with 1 M."
)


class Rule(NamedTuple):
    """An aggregator, as it is measured.

    Attributes:
        plugin: Its name.
        config: How it is configured.
    """

    plugin: str
    config: dict[str, Any]


#: Of 20 clients, 3 of whom may be attackers.
RULES = {
    "fedavg": Rule("fedavg", {}),
    "avgm": Rule("fedopt", {"rule": "avgm"}),
    "adam": Rule("fedopt", {"rule": "adam"}),
    "median": Rule("median", {"defer_above": None}),
    "trimmed-mean": Rule("trimmed-mean", {"trim": 2, "defer_above": None}),
    "krum": Rule("krum", {"attackers": 3, "defer_above": None}),
    "multi-krum": Rule("krum", {"attackers": 3, "select": 10, "defer_above": None}),
}


def measure(effort: Effort) -> dict[str, Any]:
    """Measure whole rounds of all rules, and of those that fold also large ones."""
    sizes = [(20, 1000), (20, 2000)] if effort.smoke else _SIZES
    seconds: dict[str, Times] = {}
    for at, (clients, count) in enumerate(sizes):
        updates = drawn(clients, count)
        calls = {f"read {clients}x{count}": read_once(updates)}
        for name in RULES if at == 0 else _FOLDS:
            calls[f"{name} {clients}x{count}"] = ours(name, updates)
        if at == 0:
            calls[f"{_NUMPY} {clients}x{count}"] = ours("fedavg", updates, engine="numpy")
        seconds |= interleave(calls, effort, samples=7)
    return {"sizes": sizes, "numba": bool(find_spec("numba")), "seconds": seconds}


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the lines of the table."""
    times: dict[str, Times] = result["seconds"]
    found: list[Row] = []
    for at, (clients, count) in enumerate(result["sizes"]):
        size = f"{clients}x{count}"
        read = times[f"read {size}"]
        for name in (*RULES, _NUMPY):
            if f"{name} {size}" not in times:
                continue
            own, goal = times[f"{name} {size}"], bool(at) and result["numba"]
            found.append(
                Row(
                    "G8" if goal else "",
                    f"a round of {clients} updates of {count / 1e6:g} M float32, {name}; against "
                    "reading them",
                    "at least 0.6x the speed" if goal else "",
                    f"{speeds(own, clients * count)}; read {speeds(read, clients * count)}",
                    f"{ratio(read, own):.2f}x ({min(read) / min(own):.2f}x)",
                    ratio(read, own) >= 0.6 if goal else None,
                    _NOTE if goal else "",
                )
            )
    return found


def drawn(clients: int, count: int) -> list[ParameterSet]:
    """Return updates that lie as those of honest clients do: near to each other."""
    rng = np.random.default_rng(0)
    around = rng.standard_normal(count, dtype=np.float32)
    found: list[ParameterSet] = []
    for _ in range(clients):
        values = rng.standard_normal(count, dtype=np.float32)
        np.multiply(values, np.float32(0.1), out=values)
        np.add(values, around, out=values)
        found.append(ParameterSet.from_tensors({"w": values[10:], "b": values[:10]}))
    return found


def ours(name: str, updates: Sequence[ParameterSet], **config: Any) -> Callable[[], object]:
    """Return what takes one round in; server optimizers have had one before."""
    rule = RULES[name]
    cls = bound_class("aggregator", rule.plugin)
    aggregator: Any = cls(cls.Config(**rule.config, **config), environment("aggregator"))
    context = FakeContext()

    def run() -> object:
        for update in updates:
            aggregator.contribute(context, update, {"examples": _EXAMPLES})
        return aggregator.aggregate(context)

    run()
    return run


def read_once(updates: Sequence[ParameterSet]) -> Callable[[], object]:
    """Return what reads each number of all updates once."""
    vectors = [update.flat("float32") for update in updates]
    return lambda: [sdot(vector, vector) for vector in vectors]


def speeds(times: Times, count: int) -> str:
    """Return how many bytes of float32 per second, for people."""
    return f"{4e-9 * count / median(times):.2f} GB/s (max {4e-9 * count / min(times):.2f})"
