"""The simulator: federations in virtual time, with links, faults and liars; same seed, same run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bb_sim.errors import (
        BadCheckpoint,
        BadScenario,
        NoCheckpointNow,
        SimulationError,
        UnknownPeers,
    )
    from bb_sim.results import Result, Round
    from bb_sim.scenario import (
        Attack,
        Clock,
        Compute,
        Crash,
        Join,
        Leave,
        Liar,
        Link,
        Partition,
        Scenario,
        read_scenario,
    )
    from bb_sim.simulation import Simulation, simulate

__all__ = [
    "Attack", "BadCheckpoint", "BadScenario", "Clock", "Compute", "Crash", "Join", "Leave", "Liar",
    "Link", "NoCheckpointNow", "Partition", "Result", "Round", "Scenario", "Simulation",
    "SimulationError", "UnknownPeers",
    "read_scenario", "simulate",
]  # fmt: skip
_HOMES = {
    "errors": "BadCheckpoint BadScenario NoCheckpointNow SimulationError UnknownPeers",
    "results": "Result Round",
    "simulation": "Simulation simulate",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((m for m, names in _HOMES.items() if name in names.split()), "scenario")
    return getattr(import_module(f"bb_sim.{home}"), name)
