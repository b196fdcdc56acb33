"""What a round of federated averaging costs when no client does any work.

All is real but the model: programs, frames, envelopes encoded, copied and decoded between Nodes on
a `LocalBus`, the streaming fold. The floor folds as many updates of the same size in a loop.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from do_nothing import Echo, Everybody, compiler, parameters, peers
from measure import Effort, Row, Times, interleave, ratio, shown, shown_ratio

import bb_runtime as rt
from bb_ir.ids import PeerId
from bytesandbrains.programs import FederatedAveraging

SMALL, LARGE = 650, 1_000_000
_ROUND = "FederatedAveraging"
_NOTE = (
    "The goal is meant for the simulator, which hands envelopes on by reference and has its own "
    "rows; on a `LocalBus` two per client and round are encoded, checked, copied and decoded."
)


def measure(effort: Effort) -> dict[str, Any]:
    """Measure federations of several sizes, and floors."""
    sizes = [(10, SMALL), (100, SMALL), (1000, SMALL), (10, LARGE), (100, LARGE)]
    if effort.smoke:
        sizes = [(2, 20), (3, 20)]
    most = max(clients for clients, _ in sizes)
    Everybody.ids = peers(1, most)
    calls: dict[str, Callable[[], object]] = {}
    for clients, count in sizes:
        calls[f"{clients}x{count}"] = _federation(clients, count)
        calls[f"{clients}x{count} floor"] = floor(clients, count)
    return {"sizes": sizes, "seconds": interleave(calls, effort, samples=9)}


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the lines of the table."""
    times: dict[str, Times] = result["seconds"]
    found: list[Row] = []
    for clients, count in result["sizes"]:
        ours, floor = times[f"{clients}x{count}"], times[f"{clients}x{count} floor"]
        each = 1e6 / clients
        at_goal = (clients, count) == (1000, SMALL)
        found.append(
            Row(
                "G4" if at_goal else "",
                f"a round of {clients:,} clients with {count:,} parameters, per client; "
                "against the floor",
                "at most 15 us" if at_goal else "",
                f"{shown(ours, 'us', each)}; floor {shown(floor, 'us', each)}",
                shown_ratio(ours, floor),
                median(ours) * each <= 15 if at_goal else None,
                _NOTE if at_goal else "",
            )
        )
    found += _growth(times)
    return found


def _growth(times: dict[str, Times]) -> list[Row]:
    few, many = times.get(f"100x{SMALL}"), times.get(f"1000x{SMALL}")
    if few is None or many is None:
        return []
    few, many = [t / 100 for t in few], [t / 1000 for t in many]
    return [
        Row(
            "",
            "cost per client at 1,000 clients against that at 100, 650 parameters",
            "",
            "",
            f"{ratio(many, few):.2f}x ({min(many) / min(few):.2f}x)",
        )
    ]


def _federation(clients: int, count: int) -> Callable[[], object]:
    artifact = rt.load_artifact(compiler().compile(FederatedAveraging(clients).build()))
    Echo.first = parameters(count)
    server = rt.install(PeerId.from_seed(0, 0), [], artifact, [_ROUND])
    chosen = Everybody.ids[:clients]
    nodes = (rt.install(peer, [], artifact, [f"{_ROUND}.client"]) for peer in chosen)
    bus = rt.LocalBus(server, *nodes)

    def run_round() -> None:
        server.invoke(_ROUND)
        emitted = [e.step.value for e in bus.run() if isinstance(e.step, rt.Emitted)]
        assert [value["count"] for value in emitted] == [clients], emitted

    return run_round


def floor(clients: int, count: int) -> Callable[[], object]:
    """Fold updates of their own memory, as the Nodes have them, with two numpy calls each."""
    updates = [np.full(count, number, np.float32) for number in range(clients)]
    total, scratch = np.empty(count, np.float32), np.empty(count, np.float32)

    def run_round() -> None:
        total[:] = 0
        weights = 0
        for update in updates:
            np.multiply(update, 32.0, out=scratch)
            np.add(total, scratch, out=total)
            weights += 32
        np.divide(total, weights, out=total)

    return run_round
