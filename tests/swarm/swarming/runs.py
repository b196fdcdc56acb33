"""Runs one world, twice, and says what does not hold in it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from bb_ir.ids import PeerId
from bb_sim import Result, Scenario, Simulation
from bb_sim._reading import duration
from bb_sim.chaos import random_scenario
from swarming.checks import check
from swarming.learning import allows_learning, finished, softened, without_faults
from swarming.programs import PROGRAMS
from swarming.watch import Watch, watching

__all__ = ["Run", "broken", "run_once", "world_of"]

#: In virtual time longer than the slowest peer takes for all that waits for it.
QUIET = "5m"


class Run(NamedTuple):
    """What came of one run.

    Attributes:
        result: What the simulator says.
        wrong: What does not hold.
        watch: What was seen.
        root: The first peer that was invoked.
        learns: Whether the world allows all rounds to end.
    """

    result: Result
    wrong: list[str]
    watch: Watch
    root: PeerId
    learns: bool


def world_of(seed: int, program: str | None = None) -> tuple[str, Scenario]:
    """Return which program a seed runs, unless that is said, and in which world."""
    turn, number = divmod(seed, len(PROGRAMS))
    name = program or list(PROGRAMS)[number]
    case = PROGRAMS[name]()
    world = random_scenario(seed, case.peers, rounds=3, faulty=case.faulty)
    if case.learns and turn % 3:
        world = softened(world)
    return name, replace(world, **case.more)


def run_once(name: str, world: Scenario, *, late: bool) -> Run:
    """Run a world to its end and on until all is quiet."""
    case = PROGRAMS[name]()
    with watching(case.artifact) as watch:
        simulation = Simulation(
            case.artifact, world, config=case.config, options=case.options, late=late
        )
        result = simulation.run()
        if case.clocks:  # they never end, also those of peers that are still to come back
            simulation.drain(within=f"{max(1, _last_move(world) - simulation.now_ns)}ns")
            for node in simulation.nodes.values():
                node.pause()
        simulation.drain(within=QUIET)
        wrong = check(case, simulation, watch)
        learns = case.learns and allows_learning(world, simulation, case.spare)
        root = simulation.root.peer
        simulation.close()
    return Run(result, wrong, watch, root, learns)


def _last_move(world: Scenario) -> int:
    """Return an instant from which on no peer starts or stops any more, in nanoseconds."""
    return 1 + sum(
        max((duration(getattr(fault, name, "") or "0", name) for fault in world.faults), default=0)
        for name in ("at", "back")
    )


def broken(name: str, world: Scenario) -> list[str]:
    """Return what does not hold in a world; whatever gets out of it, too."""
    try:
        return list(_broken(name, world))
    except Exception:  # noqa: BLE001  # that is what is looked for
        return [traceback.format_exc()]


def _broken(name: str, world: Scenario) -> Iterator[str]:
    late, eager = (run_once(name, world, late=late) for late in (True, False))
    yield from late.wrong
    yield from (f"not late: {one}" for one in eager.wrong)
    if late.result.to_dict() != eager.result.to_dict():
        yield "running late changes the result"
    if late.learns:
        calm = run_once(name, without_faults(world), late=True)
        yield from finished(late.result, late.watch, calm.watch, late.root)
