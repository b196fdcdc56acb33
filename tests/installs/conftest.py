"""Built wheels and fresh environments, so that a test meets what a user meets: nothing editable."""

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
MEMBERS = sorted(path.parent for path in ROOT.glob("p*/*/pyproject.toml"))
# Too large to be installed here: their wheels are built and read, and no more.
APART = {
    Path(folder).name.replace("-", "_")
    for folder in tomllib.loads((ROOT / "release.toml").read_text())["lockstep"]["apart"]
}
EDGE = ["bb_ir", "bb_roles", "bb_plans", "bb_runtime", "bb_ops"]
# What would lead a new interpreter or installer back into the environment of the tests.
INHERITED = ["PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "UV_PYTHON", "UV_PROJECT_ENVIRONMENT"]


def run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command outside the environment of the tests; a failure shows all it said."""
    environment = {key: value for key, value in os.environ.items() if key not in INHERITED}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


def build_wheels(out: Path) -> list[Path]:
    """Build the wheel of every member, or take those that `BB_WHEELS` names."""
    if built := os.environ.get("BB_WHEELS"):
        return sorted(Path(built).glob("*.whl"))
    for member in MEMBERS:
        run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out, cwd=member)
    return sorted(out.glob("*.whl"))


def fresh_env(folder: Path, *wheels_or_requirements: str | Path) -> Path:
    """Make an environment that holds these wheels and what they need; return its Python."""
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    wanted = ["-c", ROOT / "constraints.txt", *wheels_or_requirements]
    if uv := os.environ.get("UV") or shutil.which("uv"):
        run(uv, "venv", "--quiet", "--python", sys.executable, folder)
        run(uv, "pip", "install", "--quiet", "--python", python, *wanted)
    else:
        run(sys.executable, "-m", "venv", folder)
        run(python, "-m", "pip", "install", "--quiet", *wanted)
    return python


@pytest.fixture(scope="session")
def wheels(tmp_path_factory) -> dict[str, Path]:
    """The wheel of every member, by import name."""
    built = build_wheels(tmp_path_factory.mktemp("wheels"))
    return {path.name.partition("-")[0]: path for path in built}


@pytest.fixture(scope="session")
def whole_python(wheels, tmp_path_factory) -> Path:
    """The Python of an environment as after `pip install "bytesandbrains[demo]"`."""
    left_out = {"bytesandbrains", "bb_testing", *APART}
    others = [path for name, path in wheels.items() if name not in left_out]
    facade = f"{wheels['bytesandbrains']}[demo]"
    return fresh_env(tmp_path_factory.mktemp("whole") / "venv", facade, *others)


@pytest.fixture(scope="session")
def edge_python(wheels, tmp_path_factory) -> Path:
    """The Python of an edge device: the runtime and all plugins, no recorder and no compiler."""
    plugins = {path.name.replace("-", "_") for path in MEMBERS if path.parent.name == "plugins"}
    wanted = [path for name, path in wheels.items() if name in {*EDGE, *plugins} - APART]
    return fresh_env(tmp_path_factory.mktemp("edge") / "venv", *wanted)


class Author(NamedTuple):
    """An environment outside the repository, and a folder where projects stand side by side."""

    python: Path
    desk: Path
    suites: Path

    def run(self, *command: str | Path, folder: str = ".") -> str:
        """Run the environment's Python, and give back what was printed."""
        return run(self.python, *command, cwd=self.desk / folder).stdout

    def bb(self, *arguments: str | Path) -> str:
        """Run `bb`, and give back what was printed."""
        return run(self.python.with_name("bb"), *arguments, cwd=self.desk).stdout

    def install(self, *projects: str) -> None:
        """Do `pip install -e PROJECT[test]`; what is ours comes from the wheels.

        The suites are named by their file: uv remembers what it found behind `--find-links` by
        name and version, and would take the wheel of an earlier run from its cache.
        """
        wanted = [self.suites, *(word for one in projects for word in ("-e", f"./{one}[test]"))]
        options = ["--quiet", "-c", ROOT / "constraints.txt"]
        if uv := os.environ.get("UV") or shutil.which("uv"):
            command = [uv, "pip", "install", "--python", self.python]
        else:
            command = [self.python, "-m", "pip", "install"]
        run(*command, *options, *wanted, cwd=self.desk)


@pytest.fixture(scope="session")
def author(wheels, tmp_path_factory) -> Author:
    """What `pip install "bytesandbrains[demo]"` leaves, and an empty folder."""
    others = [path for name, path in wheels.items() if name not in {"bytesandbrains", "bb_testing"}]
    folder = tmp_path_factory.mktemp("author")
    python = fresh_env(folder / "venv", f"{wheels['bytesandbrains']}[demo]", *others)
    desk = folder / "desk"
    desk.mkdir()
    return Author(python, desk, wheels["bb_testing"])


@pytest.fixture
def run_in(tmp_path) -> Callable[..., str]:
    """Return `run_in(python, *arguments)`: run in an empty folder, give back what was printed."""

    def run_python(python: Path, *arguments: str | Path) -> str:
        return run(python, *arguments, cwd=tmp_path).stdout

    return run_python
