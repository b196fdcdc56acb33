"""Plants bugs into the engine, and says what a swarm finds of them."""

from __future__ import annotations

from typing import Any

from bb_sim import Link, Scenario
from swarming import runs

__all__ = ["found", "nothing", "plant"]


def found(name: str, seeds: Any = (), **scenario: Any) -> str:
    """Return all that is wrong in the worlds of some seeds; without any, in a calm one.

    Args:
        name: The program.
        seeds: The seeds.
        scenario: What is different in the calm world.
    """
    case = runs.PROGRAMS[name]()
    calm = {"peers": dict(case.peers), "rounds": 2, "links": Link("10ms"), "until": "10m"}
    worlds = [runs.world_of(seed, name)[1] for seed in seeds]
    worlds = worlds or [Scenario(**{**calm, **case.more, **scenario})]
    return "\n".join(one for world in worlds for one in runs.broken(name, world))


def plant(monkeypatch: Any, owner: type, name: str, make: Any) -> None:
    """Put something else in the place of a method, made from it."""
    monkeypatch.setattr(owner, name, make(getattr(owner, name)))


def nothing(*_: Any, **__: Any) -> None:
    """Do nothing, in the place of a method that should have done something."""
