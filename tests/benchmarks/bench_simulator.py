"""What the simulator spends on a virtual peer: time in a round, and memory.

The task and the floor are those of `bench_federation`. Each peer is a Node that takes an envelope,
runs its frame and sends an answer, in virtual time. Each row is the work of all peers and of the
server, over the number of peers.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from statistics import median
from typing import Any

from bench_federation import floor
from do_nothing import Echo, Everybody, compiler, parameters
from measure import Effort, Row, Times, interleave, ratio, shown, shown_ratio

from bb_runtime import load_artifact
from bb_sim import Scenario, Simulation
from bytesandbrains.programs import FederatedAveraging

SMALL = 650
SIZES = (10, 100, 1_000, 10_000)
#: What is compared with a simulation as it is when nothing is said.
_WAYS: dict[str, dict[str, Any]] = {
    "": {},
    " undigested": {"digest": False},
    " bytes": {"by_reference": False},
}
_GOAL_PEERS = 1_000
_BYTES = 15_000


def measure(effort: Effort) -> dict[str, Any]:
    """Measure rounds of several sizes in three ways, and floors; and memory at two sizes."""
    sizes = (2, 3) if effort.smoke else SIZES
    count = effort.size(SMALL, 20)
    memory = _memory(count, (20, 40) if effort.smoke else (500, 2_500))
    calls: dict[str, Callable[[], object]] = {}
    for peers in sizes:
        for way, options in _WAYS.items():
            calls[f"{peers}{way}"] = _rounds(peers, peers, count, options)
        calls[f"{peers} floor"] = floor(peers, count)
    seconds = interleave(calls, effort, samples=9)
    return {"sizes": list(sizes), "count": count, "seconds": seconds, "bytes": memory}


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the lines of the table."""
    times: dict[str, Times] = result["seconds"]
    found = [row for peers in result["sizes"] for row in _of_size(times, peers, result["count"])]
    return [*found, *_growth(times), *_held(result["bytes"])]


def _of_size(times: dict[str, Times], peers: int, count: int) -> list[Row]:
    ours, undigested, in_bytes = (times[f"{peers}{way}"] for way in _WAYS)
    bare = times[f"{peers} floor"]
    each = 1e6 / peers
    goal = {"goal": "G4", "bound": "at most 15 us"} if peers == _GOAL_PEERS else {}
    what = f"a round of {peers:,} virtual peers with {count:,} parameters, per peer"

    def row(what: str, spent: Times) -> Row:
        met = median(spent) * each <= 15 if goal else None
        measured = f"{shown(spent, 'us', each)}; floor {shown(bare, 'us', each)}"
        return Row(
            goal.get("goal", ""), what, goal.get("bound", ""), measured, shown_ratio(spent, bare),
            met,
        )  # fmt: skip

    return [
        row(f"{what}; against the floor", ours),
        row(f"{what}, with `digest=False`; against the floor", undigested),
        Row(
            "",
            f"{what}, with `by_reference=False`; against by reference",
            "",
            shown(in_bytes, "us", each),
            shown_ratio(in_bytes, ours),
        ),
    ]


def _growth(times: dict[str, Times]) -> list[Row]:
    """Compare the cost of a peer among ten times as many with that among a thousand."""
    found: list[Row] = []
    for way, told in (("", ""), (" undigested", ", with `digest=False`")):
        few, many = times.get(f"1000{way}"), times.get(f"10000{way}")
        if few is None or many is None:
            continue
        few, many = [t / 1_000 for t in few], [t / 10_000 for t in many]
        what = f"cost per peer at 10,000 virtual peers against that at 1,000{told}"
        grown = shown_ratio(many, few)
        found.append(Row("G5", what, "at most 1.3x", "", grown, ratio(many, few) <= 1.3))
    return found


def _held(memory: dict[str, float]) -> list[Row]:
    told = {
        "unneeded": "memory of a virtual peer that no round has needed yet",
        "installed": "memory of a virtual peer between rounds in which it takes part",
    }
    return [
        Row(
            "G5", what, f"at most {_BYTES / 1e3:g} kB", f"{memory[kind] / 1e3:.2f} kB",
            met=memory[kind] <= _BYTES,
        )
        for kind, what in told.items()
    ]  # fmt: skip


def _rounds(
    peers: int, cohort: int, count: int, options: dict[str, Any]
) -> Callable[[], Simulation]:
    """Return what runs one more round of a simulation."""
    artifact = load_artifact(compiler().compile(FederatedAveraging(cohort).build()))
    Echo.first = parameters(count)
    simulation = Simulation(artifact, Scenario(peers={"client": peers}, rounds=10**9), **options)
    ids = simulation.population.ids[1:]
    # Peers are named by seed and number: those of a smaller simulation are the first of a larger.
    if len(ids) > len(Everybody.ids):
        Everybody.ids = ids
    rounds = simulation.rounds()

    def run_round() -> Simulation:
        done = next(rounds)
        summary = done.output("round").last
        assert summary["count"] == cohort, summary
        return simulation

    return run_round


def _memory(count: int, sizes: tuple[int, int]) -> dict[str, float]:
    """Return how many bytes one more peer takes, by what it has done."""
    few, many = sizes
    _traced(few, few, count)  # imports and compiles what would count otherwise
    more = many - few
    return {
        "unneeded": (_traced(many, 2, count) - _traced(few, 2, count)) / more,
        "installed": (_traced(many, many, count) - _traced(few, few, count)) / more,
    }


def _traced(peers: int, cohort: int, count: int) -> int:
    """Return what is allocated after two rounds, as Python counts it, which numpy tells it."""
    gc.collect()
    tracemalloc.start()
    try:
        run_round = _rounds(peers, cohort, count, {})
        run_round()
        simulation = run_round()
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    simulation.close()
    return held
