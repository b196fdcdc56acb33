"""Compares our aggregators with Flower's strategies of the same rules: `nox -s bench-flwr`.

Figures land in `<out>/flwr.json`; `nox -s bench -- --docs` makes a section of `docs/benchmarks.md`
from them. Both run in one process, in turns, on the same updates. That their results are the same,
`nox -s equal-flwr` tells.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from measure import SMOKE, Effort, environment
from peers.rules import section

ROOT = Path(__file__).parents[2]
_THREADS = ["OMP", "OPENBLAS", "MKL", "BLIS", "NUMBA", "VECLIB_MAXIMUM"]


def main() -> None:
    """Measure, or show what was measured last."""
    parser = argparse.ArgumentParser(description="Compare aggregators with Flower's strategies.")
    parser.add_argument("--out", type=Path, default=ROOT / "bench-out", help="folder of the JSON")
    parser.add_argument("--smoke", action="store_true", help="only see that it runs")
    parser.add_argument("--show", action="store_true", help="measure nothing; print the last table")
    given = parser.parse_args()
    path = given.out / "flwr.json"
    if not given.show:
        if not find_spec("flwr"):
            sys.exit("flwr is not installed here: nox -s bench-flwr")
        given.out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(measured(SMOKE if given.smoke else Effort()), indent=1))
    elif not path.exists():
        sys.exit(f"{path} is missing; measure first: nox -s bench-flwr")
    print(section(json.loads(path.read_text())))


def measured(effort: Effort) -> dict[str, Any]:
    """Compare, and say on which machine."""
    for library in _THREADS:  # numpy is imported after this
        os.environ[f"{library}_NUM_THREADS"] = "1"
    from peers.with_flower_rules import compare

    started, before = time.monotonic(), os.getloadavg()
    result = compare(effort)
    about = {
        "environment": environment(),
        "date": time.strftime("%Y-%m-%d"),
        "load": {"before": before, "after": os.getloadavg()},
        "smoke": effort.smoke,
        "took_seconds": round(time.monotonic() - started, 1),
    }
    return {"about": about, "result": result}


if __name__ == "__main__":
    main()
