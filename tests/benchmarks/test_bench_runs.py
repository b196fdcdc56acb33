"""Every benchmark still runs, and the page in the docs still has all its lines."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "benchmarks.md"
NAMES = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", "error", str(HERE / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", NAMES)
def test_benchmark_runs_and_writes_its_samples(name, tmp_path):
    done = run(name, "--smoke", f"--out={tmp_path}")

    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / f"{name}.json").read_text())
    assert found["about"]["environment"]["packages"]["numpy"]
    assert found["result"]


def test_unknown_benchmark_is_refused():
    done = run("speed")

    assert done.returncode == 2
    assert "there is no speed" in done.stderr


def test_page_has_a_table_of_each_benchmark():
    headings = re.findall(r"^`nox -s bench -- (\w+)`$", PAGE.read_text(), re.MULTILINE)

    assert sorted(headings) == NAMES
