"""The comparison of speed runs where Flower is: what it measures is the same work on both sides."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_comparison_runs_and_writes_its_samples(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "run_flwr.py"), "--smoke", f"--out={tmp_path}"]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    cases = json.loads((tmp_path / "flwr.json").read_text())["result"]["cases"]
    assert len(cases) == 8
    assert all({"ours", "read", "strategy"} <= set(times) for times in cases.values())
    assert {"adam", "avgm"} == {
        c.split()[0] for c, times in cases.items() if "function" not in times
    }
    assert "the figures mean nothing" in done.stdout
