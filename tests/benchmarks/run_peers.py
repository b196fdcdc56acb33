"""Compares our simulator with others: `nox -s bench-peers`.

Figures land in `<out>/peers.json`; `nox -s bench -- --docs` makes a section of `docs/benchmarks.md`
from them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from measure import environment
from peers.driver import CASES, Plan, compare
from peers.frameworks import FRAMEWORKS
from peers.table import section

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Measure, or show what was measured last."""
    given = parsed()
    path = given.out / "peers.json"
    if not given.show:
        given.out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(measured(given), indent=1))
    elif not path.exists():
        sys.exit(f"{path} is missing; measure first: nox -s bench-peers")
    found = json.loads(path.read_text())
    print(section(found))
    if not any(found["result"]["samples"].values()):
        sys.exit("nothing ran")


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Compare simulators on federated averaging.")
    parser.add_argument("--out", type=Path, default=ROOT / "bench-out", help="folder of the JSON")
    parser.add_argument(
        "--environments", type=Path, help="folder of the others' environments; beside the JSON"
    )
    parser.add_argument(
        "--only", action="append", choices=FRAMEWORKS, help="these frameworks alone; repeatable"
    )
    parser.add_argument(
        "--case", action="append", type=case, help="such a size alone, as 10x650; repeatable"
    )
    parser.add_argument("--turns", type=int, default=3, help="how often each runs each size")
    parser.add_argument("--limit", type=float, default=1200, help="seconds that a run may take")
    parser.add_argument("--smoke", action="store_true", help="only see that it runs")
    parser.add_argument("--show", action="store_true", help="measure nothing; print the last table")
    return parser.parse_args()


def case(text: str) -> tuple[int, int]:
    """Read a size."""
    clients, count = (int(part) for part in text.split("x"))
    if clients < 2 or count < 20:
        raise ValueError(text)
    return clients, count


def measured(given: argparse.Namespace) -> dict[str, Any]:
    """Compare, and say on which machine."""
    if not sys.platform.startswith("linux"):
        sys.exit("what processes cost is read from /proc, which only Linux has")
    smoke: bool = given.smoke
    plan = Plan(
        frameworks=given.only or list(FRAMEWORKS),
        cases=given.case or ([(2, 20), (3, 20)] if smoke else CASES),
        turns=1 if smoke else given.turns,
        warm_up=1 if smoke else 2,
        rounds=1 if smoke else 3,
        seconds=0.0 if smoke else 2.0,
        limit=given.limit,
        environments=(given.environments or given.out / "environments").resolve(),
    )
    started, before = time.monotonic(), os.getloadavg()
    result = compare(plan)
    about = {
        "environment": environment(),
        "date": time.strftime("%Y-%m-%d"),
        "load": {"before": before, "after": os.getloadavg()},
        "smoke": smoke,
        "took_seconds": round(time.monotonic() - started, 1),
    }
    return {"about": about, "result": result}


if __name__ == "__main__":
    main()
