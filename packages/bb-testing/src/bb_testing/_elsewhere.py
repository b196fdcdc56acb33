"""Lets components live in processes with other hash seeds; `python -m bb_testing._elsewhere`.

Which order a set has, and so what depends on it, is decided when Python starts. One process runs
the lives of all suites of a test module, so that a module costs as much as a class.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import ModuleType
from typing import Any, Final, Protocol

import pytest

__all__ = ["HASH_SEEDS", "check_told_elsewhere", "told_elsewhere"]

#: Seeds of the other processes; this one has a third.
HASH_SEEDS: Final = ("1", "2")
#: What one life told, step by step, or why it broke off.
Told = list[str] | str


class _Tells(Protocol):
    """A suite that can say in a few texts what it found."""

    def told(self) -> list[str]: ...


def check_told_elsewhere(suite: _Tells, what: str) -> None:
    """Assert that a suite tells the same in processes with other hash seeds.

    Args:
        suite: The suite.
        what: What it tells, such as `plans`.
    """
    expected = suite.told()
    for found in told_elsewhere(suite):
        assert found == expected, (
            f"in a process with another PYTHONHASHSEED {what} are different: sort what comes "
            "out of a set"
        )


def told_elsewhere(suite: _Tells) -> Iterator[list[str]]:
    """Yield what a suite tells in processes with other hash seeds; skip where there are none."""
    cls = type(suite)
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if file is None or cls.__qualname__ != cls.__name__ or not hasattr(sys, "executable"):
        pytest.skip("only a suite at the top level of a file can be run in another process")
    given = pickle.dumps(vars(suite)) if vars(suite) else b""
    for told in _lives_elsewhere(file, cls.__module__, given):
        found = told.get(cls.__name__)
        assert found is not None, f"{file} has no class {cls.__name__} in another process"
        assert not isinstance(found, str), f"in another process it failed:\n{found}"
        yield found


@lru_cache(maxsize=64)
def _lives_elsewhere(file: str, module: str, given: bytes = b"") -> tuple[Mapping[str, Told], ...]:
    """Return for each hash seed what the suites of a test module told, by name of the class.

    Args:
        file: The module.
        module: Its name here.
        given: Pickled attributes of the instances, such as fixtures have set; none when empty.
    """
    order = json.dumps({"file": file, "module": module, "path": sys.path, "given": given.hex()})
    command = [sys.executable, "-m", "bb_testing._elsewhere"]
    started = [
        subprocess.Popen(  # noqa: S603  # this Python, with a module of ours
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env={**os.environ, "PYTHONHASHSEED": seed},
        )
        for seed in HASH_SEEDS
    ]  # fmt: skip
    found: list[Mapping[str, Told]] = []
    for process in started:
        out, err = process.communicate(order)
        assert process.returncode == 0, f"{file} could not be run in another process:\n{err}"
        # What the module printed comes before.
        found.append(json.loads(out.rpartition("\n")[2]))
    return tuple(found)


def _main() -> None:
    order = json.loads(sys.stdin.read())
    sys.path[:] = order["path"]
    module = _load(order["file"], order["module"])
    suites: dict[str, Any] = {
        name: cls
        for name, cls in vars(module).items()
        if name.startswith("Test") and callable(getattr(cls, "told", None))
    }
    told: dict[str, Told] = {}
    given = bytes.fromhex(order["given"])
    for name, cls in suites.items():
        try:
            suite = cls()
            if given:
                suite.__dict__ |= pickle.loads(given)  # noqa: S301  # written by the process that started this one
            told[name] = suite.told()
        except BaseException:  # noqa: BLE001  # also a skip; the test of this class reports it
            told[name] = traceback.format_exc(limit=-3)
    sys.stdout.write("\n" + json.dumps(told))


def _load(file: str, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None, f"{file} is no module"
    assert spec.loader is not None, f"{file} cannot be loaded"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    _main()
