"""Runs a federation for very long in a bad world, and sees that it holds no more memory for it.

nox -s soak                     a thousand rounds, twice: as fast as it can, and traced
nox -s soak -- --rounds 10000   more of them
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings

from swarming.soaking import LOOKS, Soak


def soak(rounds: int, *, traced: bool) -> bool:
    """Run once, print what it held, and tell whether that is too much."""
    begun = time.monotonic()
    run = Soak(rounds, traced=traced)
    run.run()
    spent = time.monotonic() - begun
    print(f"{rounds} rounds in {spent:.0f} s{', traced' if traced else ''}: {dict(run.seen)}")
    measures = ("objects", "traced", "pooled") if traced else ("objects", "resident", "pooled")
    for what in measures:
        first, last = (min(getattr(one, what) for one in some) for some in (run.first, run.last))
        print(f"  {what:9} {first:>12,} after {run.first[0].round} rounds, {last:>12,} in the end")
    print(*(f"  {one}" for one in run.wrong() or ["all is flat"]), sep="\n")
    return bool(run.wrong())


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=1_000, help="how many")
    asked = parser.parse_args()
    if asked.rounds < 100 + 3 * LOOKS:
        parser.error(f"--rounds {asked.rounds} is too few to compare: take {100 + 3 * LOOKS}")
    warnings.simplefilter("error")
    failed = [soak(asked.rounds, traced=traced) for traced in (False, True)]
    return int(any(failed))


if __name__ == "__main__":
    sys.exit(main())
