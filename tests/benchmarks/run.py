"""Runs the benchmarks: `nox -s bench`, or `python tests/benchmarks/run.py [NAME ...]`.

Each benchmark is a module `bench_<name>.py` with `measure(effort)`, which returns plain data for
`<out>/<name>.json`, and `rows(result)`, which reads that data and returns lines of the table in
`docs/benchmarks.md`. Each runs in an interpreter of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import report
from measure import SMOKE, Effort, environment

ROOT = Path(__file__).parents[2]
NAMES = [
    "engine", "backends", "federation", "simulator", "memory", "fold", "aggregators", "codecs",
    "envelope", "start", "discovery", "compile", "bytes", "journal", "snapshot", "planning",
    "moving", "storing",
]  # fmt: skip
THREADS = ["OMP", "OPENBLAS", "MKL", "BLIS", "NUMBA", "VECLIB_MAXIMUM"]


def main() -> None:
    """Measure what is named, all when nothing is; or write the docs from what was measured."""
    parser = argparse.ArgumentParser(description="Measure; the figures land in bench-out/ as JSON.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--out", type=Path, default=ROOT / "bench-out", help="folder of the JSON")
    parser.add_argument("--smoke", action="store_true", help="only see that it runs")
    parser.add_argument(
        "--docs", action="store_true", help="measure nothing; write docs/benchmarks.md anew"
    )
    given = parser.parse_args()
    if unknown := sorted(set(given.names) - set(NAMES)):
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(NAMES)}")
    if given.docs:
        results = {name: read(given.out, name) for name in NAMES}
        peers = read(given.out, "peers", session="bench-peers")
        flwr = read(given.out, "flwr", session="bench-flwr")
        (ROOT / "docs" / "benchmarks.md").write_text(report.document(results, peers, flwr))
        return
    given.out.mkdir(parents=True, exist_ok=True)
    for library in THREADS:  # numpy is imported after this
        os.environ[f"{library}_NUM_THREADS"] = "1"
    if len(given.names) == 1:
        run(given.names[0], given.out, SMOKE if given.smoke else Effort())
        return
    own = [f"--out={given.out}", *(["--smoke"] if given.smoke else [])]
    command = [sys.executable, __file__, *own]
    broken = [
        name
        for name in given.names or NAMES
        if subprocess.run([*command, name], check=False).returncode
    ]
    if broken:
        sys.exit(f"these did not run: {', '.join(broken)}")


def run(name: str, out: Path, effort: Effort) -> None:
    """Run one benchmark here and write its file."""
    module: Any = import_module(f"bench_{name}")
    started, before = time.monotonic(), os.getloadavg()
    result = module.measure(effort)
    about = {
        "environment": environment(),
        "date": time.strftime("%Y-%m-%d"),
        "load": {"before": before, "after": os.getloadavg()},
        "smoke": effort.smoke,
        "took_seconds": round(time.monotonic() - started, 1),
    }
    (out / f"{name}.json").write_text(json.dumps({"about": about, "result": result}, indent=1))
    print(f"{name}: {about['took_seconds']} s, load {before[0]:.1f}")
    for row in module.rows(result):
        print("  ", " | ".join(filter(None, (row.goal, row.what, row.measured, row.ratio))))


def read(out: Path, name: str, *, session: str = "bench") -> dict[str, Any]:
    """Return what was measured last."""
    path = out / f"{name}.json"
    if not path.exists():
        sys.exit(f"{path} is missing; measure first: nox -s {session}")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


if __name__ == "__main__":
    main()
