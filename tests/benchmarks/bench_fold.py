"""How fast updates are folded: the order-independent fold of FedAvg against BLAS and plain numpy.

Speed is that of the update's own bytes, four per parameter, whatever else moves: the fold keeps
eight bytes per parameter where `saxpy` keeps four.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
from do_nothing import parameters
from measure import Effort, Row, Times, interleave, ratio, shown_ratio
from scipy.linalg.blas import saxpy

from bb_aggregator_fedavg._fedavg import FedAvg, FedAvgConfig
from bb_ir.ids import PeerId
from bb_ir.params import ParameterSet
from bb_roles import Environment

_WEIGHT = 100
_BOUNDS = {"numpy": 5.0, "numba": 2.0}
_NOTE = (
    "numpy passes over each tile six times; where the whole update fits the cache, `saxpy` does "
    "not wait for memory, and nothing hides that. Install numba for models of this size."
)


def measure(effort: Effort) -> dict[str, Any]:
    """Measure a fold of one update."""
    sizes = [1000, 2000] if effort.smoke else [1_000_000, 25_000_000]
    engines = [engine for engine in _BOUNDS if engine == "numpy" or find_spec("numba")]
    calls: dict[str, Callable[[], object]] = {}
    for size in sizes:
        update = parameters(size)
        for engine in engines:
            calls[f"{engine} {size}"] = _contribute(update, engine)
        calls[f"saxpy {size}"] = _saxpy(update)
        calls[f"plain {size}"] = _plain(update)
    return {"sizes": sizes, "engines": engines, "seconds": interleave(calls, effort, samples=9)}


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the lines of the table."""
    times: dict[str, Times] = result["seconds"]
    found: list[Row] = []
    for size in result["sizes"]:
        saxpys = times[f"saxpy {size}"]
        for engine in result["engines"]:
            ours, bound = times[f"{engine} {size}"], _BOUNDS[engine]
            speeds = [sorted(4 * size / t / 1e9 for t in series) for series in (ours, saxpys)]
            middle = [s[len(s) // 2] for s in speeds]
            found.append(
                Row(
                    "G8b",
                    f"`contribute` of {size // 1_000_000} M float32 with {engine} "
                    "against BLAS `saxpy`",
                    f"at most {bound:.0f}x its time",
                    f"{middle[0]:.2f} GB/s (max {speeds[0][-1]:.2f}); "
                    f"saxpy {middle[1]:.2f} (max {speeds[1][-1]:.2f})",
                    shown_ratio(ours, saxpys),
                    ratio(ours, saxpys) <= bound,
                    _NOTE if engine == "numpy" else "",
                )
            )
        plain = times[f"plain {size}"]
        found.append(
            Row(
                "",
                f"`saxpy` of {size // 1_000_000} M float32 against two numpy calls",
                "",
                "",
                shown_ratio(saxpys, plain),
            )
        )
    return found


def _contribute(update: ParameterSet, engine: Any) -> Callable[[], object]:
    # The same grid as with the default bounds, for more updates than a benchmark folds.
    config = FedAvgConfig(cohort=1 << 20, weight_max=1 << 8, value_max=1 << 8, engine=engine)
    aggregator = FedAvg(config, Environment(PeerId.from_seed(0, 0), "aggregator"))
    context: Any = SimpleNamespace(round=0, sender=None)
    return lambda: aggregator.contribute(context, update, {"examples": _WEIGHT})


def _saxpy(update: ParameterSet) -> Callable[[], object]:
    values = update.flat("float32")
    total = np.zeros(values.size, np.float32)
    assert saxpy(values, total, a=_WEIGHT) is total
    return lambda: saxpy(values, total, a=_WEIGHT)


def _plain(update: ParameterSet) -> Callable[[], object]:
    values = update.flat("float32")
    total, scratch = np.zeros(values.size, np.float32), np.empty(values.size, np.float32)

    def fold() -> None:
        np.multiply(values, np.float32(_WEIGHT), out=scratch)
        np.add(total, scratch, out=total)

    return fold
