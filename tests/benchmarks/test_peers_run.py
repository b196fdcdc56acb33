"""The comparison with other simulators runs on our side, and tells what came of it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "benchmarks.md"
OURS = ["--only=ours", "--only=ours-no-digest"]

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it reads /proc")


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", "error", str(HERE / "run_peers.py"), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **env}
    )


def runs(cpu: float, wall: float) -> list[dict]:
    """Return two runs of a fixture: the figures are made up, and nobody measured them."""
    return [
        {
            "first_round_seconds": 1.5,
            "wall_seconds": [wall, wall, 9.0],
            "cpu_seconds": cpu * turn,
            "peak_bytes": turn * 100 << 20,
            "load": 0.5 * turn,
            "versions": {"python": "3.11", "fixture": "0"},
        }
        for turn in (1, 2)
    ]


def canned() -> dict:
    """Return a file of made-up figures, for what is written of them."""
    samples = {
        "ours": {"1000x650": runs(0.2, 0.2), "100x1000000": runs(0.1, 0.1)},
        "ours-no-digest": {"1000x650": runs(0.1, 0.1)},
        "pfl": {"1000x650": runs(1.6, 1.0), "100x1000000": runs(0.4, 0.4)},
    }
    result = {
        "cases": [[1000, 650], [100, 1_000_000]],
        "frameworks": ["ours", "ours-no-digest", "pfl", "flower"],
        "missing": {"flower": "there is none for a fixture"},
        "samples": samples,
        "failed": {"ours-no-digest": {"100x1000000": "the fixture says so"}},
    }
    return {"about": {"date": "the day of the fixture", "smoke": False}, "result": result}


@pytest.fixture
def shown(tmp_path) -> str:
    (tmp_path / "peers.json").write_text(json.dumps(canned()))
    done = run("--show", f"--out={tmp_path}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_our_side_runs_and_writes_its_samples(tmp_path):
    done = run("--smoke", *OURS, f"--out={tmp_path}")

    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "peers.json").read_text())["result"]
    assert result["missing"] == {}
    for name in ("ours", "ours-no-digest"):
        assert result["failed"][name] == {}
        assert list(result["samples"][name]) == ["2x20", "3x20"]
        [sample] = result["samples"][name]["3x20"]
        assert sample["versions"]["bytesandbrains"]
        assert len(sample["wall_seconds"]) == 1
        assert 0 < sample["cpu_seconds"] < 60
        assert 0 < sample["first_round_seconds"] < 600
        assert sample["peak_bytes"] > 1 << 20
    assert "the figures mean nothing" in done.stdout


def test_line_has_medians_and_ratios_within_turns(shown):
    [line] = re.findall(r"^\| 1,000 x 650 \| pfl .*$", shown, re.MULTILINE)

    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[2:4] == ["2,400 us (min 1,600)", "8.00x (8.00x)"]
    assert cells[4:] == ["1,000 ms (min 1,000)", "5.00x (5.00x)", "200 MiB", "1.5 s"]


def test_goal_holds_for_the_cpu_and_for_the_clock(shown):
    assert "pfl against ours: 8.00x (8.00x) and 5.00x (5.00x), wanted at least 6x, " in shown
    goals = re.findall(r"^- (G\d), .*: (met|\*\*missed\*\*)\.$", shown, re.MULTILINE)
    assert goals == [("G4", "**missed**"), ("G6", "met")]


def test_who_is_missing_is_named_with_the_reason(shown):
    assert "| 1,000 x 650 | Flower's simulation | not installed |" in shown
    assert "- Flower's simulation is left out: there is none for a fixture" in shown
    assert "`digest=False` did not run with 100x1000000: the fixture says so" in shown


@pytest.mark.slow
def test_what_cannot_be_installed_is_left_out_and_the_others_go_on(tmp_path):
    nowhere = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}

    done = run("--smoke", "--only=pfl", "--only=ours", f"--out={tmp_path}", **nowhere)

    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "peers.json").read_text())["result"]
    assert "No matching distribution found for pfl" in result["missing"]["pfl"]
    assert list(result["samples"]) == ["ours"]
    assert "pfl is left out: not installed: ERROR" in done.stderr


def test_run_that_does_not_end_is_given_up(tmp_path):
    done = run("--smoke", "--only=ours", "--case=2x20", "--limit=0.01", f"--out={tmp_path}")

    assert done.returncode == 1
    result = json.loads((tmp_path / "peers.json").read_text())["result"]
    assert result["failed"]["ours"] == {"2x20": "no end within 0.01 s, or killed"}


def test_clock_refuses_a_round_that_is_not_the_task(tmp_path):
    program = "from round_clock import RoundClock; RoundClock('none', []).ended(3, -1.0, 1.0)"
    given = ["--clients=4", "--count=20", f"--report={tmp_path / 'none.json'}"]
    command = [sys.executable, "-c", program, *given]

    done = subprocess.run(command, cwd=HERE / "peers", capture_output=True, text=True, check=False)

    assert "averaged 3 clients to -1.0..1.0, not 4 to -1..1" in done.stderr


def test_page_has_a_section_of_it():
    assert "\n## Beside other simulators\n\n`nox -s bench-peers`\n" in PAGE.read_text()
