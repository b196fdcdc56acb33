"""What was compared with Flower's strategies is told rightly; `nox -s equal-flwr` runs it."""

import json
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "benchmarks.md"


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", "error", str(HERE / "run_flwr.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def canned() -> dict:
    """Return a file of made-up figures, for what is written of them."""
    times = {"ours": [0.1, 0.2], "read": [0.01, 0.01], "strategy": [0.9, 1.8]}
    cases = {
        "adam 20x1000000": times,
        "krum 20x1000000": {**times, "function": [0.5, 1.0]},
        "median 20x1000000": {**times, "function": [0.5, 1.0]},
    }
    about = {"date": "the day of the fixture", "smoke": False}
    about["load"] = {"before": [0.5, 0, 0], "after": [1.5, 0, 0]}
    return {"about": about, "result": {"cases": cases, "versions": {"flwr": "0"}}}


def test_goal_holds_for_the_strategy_and_for_its_function(tmp_path):
    (tmp_path / "flwr.json").write_text(json.dumps(canned()))

    done = run("--show", f"--out={tmp_path}")

    assert done.returncode == 0, done.stderr
    goals = re.findall(
        r"^- (G\d), .*parameters, (\S+): .*: (met|\*\*missed\*\*)\.", done.stdout, re.MULTILINE
    )
    assert goals == [("G9", "krum", "**missed**"), ("G9", "median", "met")]
    assert "9.00x (9.00x) and 5.00x (5.00x), wanted at least 6x" in done.stdout
    [line] = re.findall(r"^\| adam .*$", done.stdout, re.MULTILINE)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    # 80 MB in 0.15 s at the median and 0.1 s at best.
    assert cells[1:4] == ["20 x 1,000,000", "0.53 GB/s (max 0.80)", "8.00 GB/s (max 8.00)"]
    assert cells[5:] == ["9.00x (9.00x)", "none", ""]


def test_nothing_is_shown_before_anything_was_measured(tmp_path):
    done = run("--show", f"--out={tmp_path}")

    assert done.returncode == 1
    assert "measure first: nox -s bench-flwr" in done.stderr


def test_page_has_a_section_of_it():
    assert "\n## Beside Flower's strategies\n\n`nox -s bench-flwr`\n" in PAGE.read_text()
