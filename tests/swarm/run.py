"""Runs programs in random worlds, one per seed, and looks at what must hold in all of them.

nox -s swarm                    hundreds of seeds
nox -s swarm -- --seeds 5000    more of them
nox -s swarm -- --program relay one program only
nox -s swarm -- --seed 123      one again, with all that can be told about it

A world that fails is made as simple as it can be while it still fails, and printed as a scenario;
`--program NAME --scenario FILE` runs that one.

Every world is run twice, late and at once: both must give the same digest and figures.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from pathlib import Path

from swarming.programs import PROGRAMS
from swarming.runs import broken, run_once, world_of
from swarming.shrinking import shrunk, to_toml

from bb_sim import Scenario, read_scenario


def tell(name: str, world: Scenario) -> int:
    """Show one world and what happens in it."""
    print(f"program {name}, in the world\n\n{to_toml(world)}")
    wrong = broken(name, world)
    if not wrong:
        print(json.dumps(run_once(name, world, late=True).result.to_dict(), indent=1))
    print(*(wrong or ["all holds"]), sep="\n")
    return bool(wrong)


def report(seed: int, name: str, world: Scenario, wrong: list[str], *, shrink: bool) -> None:
    """Print what failed, how to see it again, and the simplest world in which it does."""
    print(f"seed {seed} ({name}) fails; once more: nox -s swarm -- --seed {seed}")
    print(*(f"  {line}" for one in wrong for line in one.splitlines()), sep="\n", flush=True)
    if shrink:
        simplest = shrunk(world, lambda one: bool(broken(name, one)))
        print(f"the least that fails, for: nox -s swarm -- --program {name} --scenario FILE\n")
        print(to_toml(simplest), flush=True)


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=400, help="how many worlds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="this one alone, told in full")
    parser.add_argument("--program", choices=PROGRAMS, help="this program alone")
    parser.add_argument("--scenario", type=Path, help="this world alone, for --program")
    asked = parser.parse_args()
    if asked.scenario is not None and asked.program is None:
        parser.error("--scenario needs --program, which is to run in it")
    return asked


def main() -> int:
    """Run what the command line asks for."""
    asked = parsed()
    warnings.simplefilter("error")
    if asked.scenario is not None:
        return tell(asked.program, read_scenario(asked.scenario))
    if asked.seed is not None:
        return tell(*world_of(asked.seed, asked.program))
    failed, begun = 0, time.process_time()
    for seed in range(asked.first, asked.first + asked.seeds):
        name, world = world_of(seed, asked.program)
        wrong = broken(name, world)
        if wrong:
            failed += 1
            report(seed, name, world, wrong, shrink=failed <= 3)
    spent = time.process_time() - begun
    print(f"{asked.seeds} worlds, {failed} failed, {spent:.0f} s of CPU")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
