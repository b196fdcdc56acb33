"""Runs programs in random worlds, one per seed, and looks at what must hold in all of them.

nox -s swarm                    hundreds of seeds
nox -s swarm -- --seeds 5000    more of them
nox -s swarm -- --seed 123      one again, with all that can be told about it

Every world is run twice, late and at once: both must give the same digest and figures.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
import warnings
from dataclasses import replace

from programs import PROGRAMS

from bb_sim import Result, Scenario, Simulation
from bb_sim.chaos import random_scenario, violations


def world_of(seed: int) -> tuple[int, Scenario]:
    """Return which program a seed runs, and in which world."""
    number = seed % len(PROGRAMS)
    case = PROGRAMS[number]()
    world = random_scenario(seed, case.peers, rounds=3, faulty=case.faulty)
    return number, replace(world, **case.more)


def run_once(number: int, world: Scenario, *, late: bool) -> tuple[Result, list[str]]:
    """Run a world to its end and on until all is quiet; return the result and what is wrong."""
    simulation = Simulation(PROGRAMS[number]().artifact, world, late=late)
    result = simulation.run()
    wrong: list[str] = []
    if not world.until or result.complete:
        simulation.drain(within="5m" if world.start == "one" else "1s")
    if world.start == "one":  # clocks of gossip never end
        wrong = violations(simulation)
    simulation.close()
    return result, wrong


def check(seed: int) -> list[str]:
    """Return what does not hold in the world of a seed."""
    number, world = world_of(seed)
    try:
        late, wrong = run_once(number, world, late=True)
        eager, also = run_once(number, world, late=False)
    except Exception:  # noqa: BLE001  # whatever gets out is what is looked for
        return [traceback.format_exc()]
    wrong += [f"not late: {one}" for one in also]
    if late.to_dict() != eager.to_dict():
        wrong.append("running late changes the result")
    return wrong


def replay(seed: int) -> int:
    """Show one world and what happens in it."""
    number, world = world_of(seed)
    print(f"program {number}: {world}\n")
    result, _ = run_once(number, world, late=True)
    print(json.dumps(result.to_dict(), indent=1))
    wrong = check(seed)
    print(*(wrong or ["all holds"]), sep="\n")
    return bool(wrong)


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=400, help="how many worlds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="this one alone, told in full")
    asked = parser.parse_args()
    warnings.simplefilter("error")
    if asked.seed is not None:
        return replay(asked.seed)
    failed, begun = 0, time.process_time()
    for seed in range(asked.first, asked.first + asked.seeds):
        wrong = check(seed)
        if wrong:
            failed += 1
            print(f"seed {seed} fails; once more: nox -s swarm -- --seed {seed}")
            print(*(f"  {line}" for one in wrong for line in one.splitlines()), sep="\n")
    spent = time.process_time() - begun
    print(f"{asked.seeds} worlds, {failed} failed, {spent:.0f} s of CPU")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
