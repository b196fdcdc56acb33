"""Who is compared, and how each is installed: in an environment of its own, away from ours."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

__all__ = ["FRAMEWORKS", "Framework", "NotInstalled", "interpreter_of", "without_places"]

_HERE = Path(__file__).parent
_PLACES = re.compile(r"\w+://\S+|(?<![\w.])/[\w.@/+-]+")


class Framework(NamedTuple):
    """A simulator that runs the task.

    Attributes:
        label: Its name for people.
        script: What runs the rounds.
        requirement: What to install; nothing for our own, which runs where the driver does.
        pins: File of the versions that were seen to work together.
        option: What its script is told besides.
    """

    label: str
    script: str
    requirement: str = ""
    pins: str = ""
    option: str = ""


#: In the order of the table. The first one is what the others are compared with.
FRAMEWORKS = {
    "ours": Framework("bytesandbrains", "with_ours.py"),
    "ours-no-digest": Framework(
        "bytesandbrains, `digest=False`", "with_ours.py", option="no-digest"
    ),
    # The range ends before the first version whose interface nobody here has looked at.
    "pfl": Framework("pfl", "with_pfl.py", "pfl>=0.6,<0.7", "constraints-pfl.txt"),
    "flower": Framework(
        "Flower's simulation",
        "with_flower.py",
        "flwr[simulation]>=1.41,<1.43",
        "constraints-flower.txt",
    ),
}


class NotInstalled(Exception):
    """A framework cannot be installed here; its text says why."""


def interpreter_of(name: str, folder: Path) -> Path:
    """Return the interpreter that has a framework; it is installed when it is not there yet.

    Args:
        name: Of `FRAMEWORKS`.
        folder: Where the environments are, one folder for each.

    Raises:
        NotInstalled: It cannot be; the text says why.
    """
    framework = FRAMEWORKS[name]
    if not framework.requirement:
        return Path(sys.executable)
    home = folder / name
    python = home / "bin" / "python"
    pins = _HERE / framework.pins
    wanted = f"{framework.requirement}\n{pins.read_text()}"
    if not _installed(home, wanted):
        # One that was begun or is of other versions is made anew.
        _run("no environment", sys.executable, "-m", "venv", "--clear", str(home))
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        _run("not installed", *pip, framework.requirement, "-c", str(pins))
        (home / "installed.txt").write_text(wanted)
    return python


def without_places(text: str) -> str:
    """Return a text without paths and addresses: they say something about a machine alone."""
    return _PLACES.sub("...", text)


def _installed(home: Path, wanted: str) -> bool:
    """Whether an environment is whole, and of these versions."""
    told = home / "installed.txt"
    return told.exists() and told.read_text() == wanted


def _run(wrong: str, *command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotInstalled(f"{wrong}: {_said(done.stderr or done.stdout)}")


def _said(output: str) -> str:
    """Return what an installer gives as its reason, without the places that it names."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")] or lines[-1:]
    return without_places(" ".join(errors[:2])) or "the installer gave no reason"
