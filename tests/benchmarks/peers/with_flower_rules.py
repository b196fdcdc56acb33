"""Rounds of our aggregators and of Flower's strategies, in one process that has both.

Flower is measured twice: its strategies, which take replies of clients as its server hands them
over, and the functions below them, which take arrays, as its older strategies call them. Optimizers
have no such function.
"""

from __future__ import annotations

import importlib.metadata
import logging
import warnings
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from bench_aggregators import drawn, ours, read_once
from measure import Effort, Times, interleave

with warnings.catch_warnings():  # of click, which its own imports provoke
    warnings.simplefilter("ignore")
    from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
    from flwr.server.strategy import aggregate as functions
    from flwr.serverapp import strategy as strategies
    from flwr.supercore.task_identity import TaskIdentity

from bb_ir.params import ParameterSet

__all__ = ["compare"]

_EXAMPLES = 100
_SIZES = ((20, 1_000_000), (100, 1_000_000), (10, 25_000_000))
_LARGE = ("fedavg",)

_STRATEGIES: dict[str, Callable[[], Any]] = {
    "fedavg": strategies.FedAvg,
    "avgm": lambda: strategies.FedAvgM(server_momentum=0.9),
    "adam": strategies.FedAdam,
    "median": strategies.FedMedian,
    "trimmed-mean": lambda: strategies.FedTrimmedAvg(beta=0.1),
    "krum": lambda: strategies.Krum(num_malicious_nodes=3),
    "multi-krum": lambda: strategies.MultiKrum(num_malicious_nodes=3, num_nodes_to_select=10),
}
_FUNCTIONS: dict[str, Callable[[Any], object]] = {
    "fedavg": functions.aggregate,
    "median": functions.aggregate_median,
    "trimmed-mean": lambda given: functions.aggregate_trimmed_avg(given, 0.1),
    "krum": lambda given: functions.aggregate_krum(given, 3, 0),
    "multi-krum": lambda given: functions.aggregate_krum(given, 3, 10),
}


def compare(effort: Effort) -> dict[str, Any]:
    """Measure all rules on a small round, and folds on large ones, in turns."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    # Messages are made by a task of a run, which Flower's server would be.
    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1
    sizes = [(20, 1000), (20, 2000)] if effort.smoke else _SIZES
    cases: dict[str, dict[str, Times]] = {}
    for at, (clients, count) in enumerate(sizes):
        updates = drawn(clients, count)
        for name in _STRATEGIES if at == 0 else _LARGE:
            calls = {"ours": ours(name, updates), "read": read_once(updates)}
            calls["strategy"] = _strategy(name, updates)
            if name in _FUNCTIONS:
                calls["function"] = _function(name, updates)
            cases[f"{name} {clients}x{count}"] = interleave(calls, effort, samples=5)
    versions = {name: importlib.metadata.version(name) for name in ("flwr", "numpy")}
    return {"cases": cases, "versions": versions}


def _strategy(name: str, updates: Sequence[ParameterSet]) -> Callable[[], object]:
    strategy = _STRATEGIES[name]()
    held = [_record(update) for update in updates]
    grid = SimpleNamespace(get_node_ids=lambda: range(1, len(updates) + 1))
    list(strategy.configure_train(1, ArrayRecord(dict(held[0])), ConfigRecord(), grid))

    def run() -> object:
        # Some strategies take the records apart, so each round has new ones of the same arrays.
        return strategy.aggregate_train(1, [_reply(arrays) for arrays in held])

    return run


def _record(update: ParameterSet) -> dict[str, Any]:
    return {name: Array(np.array(array)) for name, array in update.items()}


def _reply(arrays: dict[str, Any]) -> Message:
    metrics = MetricRecord({"num-examples": _EXAMPLES})
    content = RecordDict({"arrays": ArrayRecord(dict(arrays)), "metrics": metrics})
    return Message(content=content, message_type="train", dst_node_id=1)


def _function(name: str, updates: Sequence[ParameterSet]) -> Callable[[], object]:
    given = [([array for _, array in update.items()], _EXAMPLES) for update in updates]
    function = _FUNCTIONS[name]
    return lambda: function(given)
