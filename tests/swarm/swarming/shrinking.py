"""Makes a world that fails as simple as it can be while it still fails, and writes it down."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from bb_sim import Link, Scenario
from bb_sim.scenario import Fault

__all__ = ["shrunk", "to_toml"]

#: So often a world is run at most before what was found is good enough.
TRIES = 300


def shrunk(world: Scenario, fails: Callable[[Scenario], bool]) -> Scenario:
    """Return a world that fails, and in which nothing can be left out without that ending."""
    left = TRIES
    going = True
    while going:
        going = False
        for simpler in _simpler(world):
            left -= 1
            if left < 0:
                return world
            if fails(simpler):
                world, going = simpler, True
                break
    return world


def _simpler(world: Scenario) -> Iterator[Scenario]:
    """Yield worlds in which less happens, those with much less first."""
    plain = Scenario()
    for name in ("faults", "liars", "compute", "clocks", "links", "pause", "tell_lost"):
        if getattr(world, name) != getattr(plain, name):
            yield replace(world, **{name: getattr(plain, name)})
    for name in ("faults", "liars"):
        found: tuple[Any, ...] = getattr(world, name)
        for at in range(len(found) if len(found) > 1 else 0):
            yield replace(world, **{name: found[:at] + found[at + 1 :]})
    for field in dataclasses.fields(Link):
        if getattr(world.links, field.name) is not None:
            yield replace(world, links=replace(world.links, **{field.name: None}))
    for name in ("compute", "clocks"):
        table: dict[str, Any] = getattr(world, name)
        for key in table if len(table) > 1 else ():
            yield replace(world, **{name: {k: v for k, v in table.items() if k != key}})
    if (world.rounds or 0) > 1:
        yield replace(world, rounds=1)
        yield replace(world, rounds=(world.rounds or 0) - 1)


def to_toml(world: Scenario) -> str:
    """Return a scenario as the file that `bb_sim.read_scenario` reads; defaults are left out."""
    plain = Scenario()
    lines: list[str] = []
    tables: list[str] = []
    for field in dataclasses.fields(world):
        value = getattr(world, field.name)
        if value == getattr(plain, field.name):
            continue
        if dataclasses.is_dataclass(value):
            tables += _table(f"[{field.name}]", value)
        elif isinstance(value, tuple):
            for one in value:
                tables += _table(f"[[{field.name}]]", one)
        elif isinstance(value, dict) and any(map(dataclasses.is_dataclass, value.values())):
            for key, one in value.items():
                tables += _table(f"[{field.name}.{json.dumps(key)}]", one)
        elif isinstance(value, dict):
            inside = ", ".join(f"{json.dumps(k)} = {json.dumps(v)}" for k, v in value.items())
            lines.append(f"{field.name} = {{ {inside} }}")
        else:
            lines.append(f"{field.name} = {json.dumps(value)}")
    return "\n".join((*lines, *tables)) + "\n"


def _table(head: str, given: Any) -> list[str]:
    lines = ["", head]
    if isinstance(given, Fault):
        lines.append(f"kind = {json.dumps(type(given).__name__.lower())}")
    for field in dataclasses.fields(given):
        value = getattr(given, field.name)
        if value is not None and value != field.default:
            lines.append(f"{field.name} = {json.dumps(value)}")
    return lines
