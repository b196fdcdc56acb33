"""Every example can be recorded and done again, in another process, step for step."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: What is installed apart runs apart: `nox -s torch`.
EXAMPLES = [
    path
    for path in sorted((ROOT / "docs" / "examples").glob("*.py"))
    if not path.stem.startswith("torch") or find_spec("bb_model_torch")
]
#: Runs an example with a journal for every Node, then replays all of them.
RECORD = """
import runpy, sys
import bb_runtime
import bytesandbrains.local
from bytesandbrains.journal import FileJournal

home = sys.modules["bb_runtime.install"]
real, folder, made = home.install, sys.argv[2], []


def install(*args, **options):
    options["journal"] = FileJournal(f"{folder}/{len(made):03}", segment_bytes=1 << 20, segments=64)
    made.append(options["journal"])
    return real(*args, **options)


home.install = bb_runtime.install = bytesandbrains.local.install = install
runpy.run_path(sys.argv[1], run_name="__main__")
print(len(made), file=sys.stderr)
"""
REPLAY = """
import runpy, sys
from pathlib import Path
from bb_runtime.replay import replay
from bytesandbrains.journal import read_journal

# The components of an example are classes of the script.
sys.modules["__main__"].__dict__.update(runpy.run_path(sys.argv[1], run_name="example"))
for folder in sorted(Path(sys.argv[2]).iterdir()):
    print(replay(read_journal(folder)).steps)
"""


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_replayed_step_for_step(path, tmp_path):
    recorded = run(RECORD, path, tmp_path)

    steps = [int(line) for line in run(REPLAY, path, tmp_path).stdout.split() if line.isdigit()]

    assert len(steps) >= int(recorded.stderr.split()[-1]) > 0
    assert sum(steps) > 0
