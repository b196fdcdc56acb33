"""Same seed, same run: byte for byte in two processes, and in all that matters on any other Python.

The golden file is the same for all Pythons and processors; every one of them compares with it.
"""

import copy
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "same_everywhere.py"


@pytest.fixture(scope="module")
def same():
    spec = importlib.util.spec_from_file_location("same_everywhere", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def found(same):
    return same.measure()


def golden(same):
    return json.loads(same.GOLDEN.read_text(encoding="utf-8"))


def test_everything_is_what_it_was_everywhere(same, found):
    assert same.differences(found, golden(same)) == [], (
        "if this is meant: python tests/federation/same_everywhere.py --update"
    )


def test_world_of_the_golden_run_is_a_bad_one(found):
    flow = found["control flow"]

    assert {"link", "partition"} <= set(flow["lost"])
    assert "duplicate" in flow["refused"]
    assert "UpdateOutOfRange" in flow["failures"]
    assert found["learning curve"]["test.accuracy"][-1] > 0.85


def test_engines_of_the_fold_give_the_same_bits(found):
    assert found["folds"]["numpy"] == found["folds"]["auto"]


def test_equal_runs_are_equal_byte_for_byte():
    def run(seed, **others):
        env = {**os.environ, "PYTHONHASHSEED": seed, **others}
        command = [sys.executable, "-W", "error", SCRIPT, "--report"]
        done = subprocess.run(command, env=env, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    assert run("1") == run("2") != b""


def test_another_processor_is_near_enough(same):
    # Numpy's BLAS takes other kernels then, whose sums are of another order.
    env = {**os.environ, "OPENBLAS_CORETYPE": "Prescott", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", SCRIPT]

    done = subprocess.run(command, env=env, capture_output=True, check=False, text=True)

    assert done.stdout.endswith("0 differences\n"), done.stdout


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("control flow", "sha256", "0"),
        ("control flow", "refused", {}),
        ("folds", "federation", "0"),
        ("codecs", "int4 per channel, nearest", "0"),
        ("learning curve", "test.loss", [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("learning curve", "test.accuracy", []),
    ],
)
def test_differences_are_told(same, part, name, value):
    other = copy.deepcopy(golden(same))
    other[part][name] = value

    [told] = same.differences(other, golden(same))

    assert name in told


def test_curves_may_differ_a_little(same):
    other = copy.deepcopy(golden(same))
    curve = other["learning curve"]
    curve["test.loss"] = [one + 0.0009 for one in curve["test.loss"]]

    assert same.differences(other, golden(same)) == []


def test_update_writes_what_is_found(same, found, monkeypatch, tmp_path):
    file = tmp_path / "new" / "golden.json"
    monkeypatch.setattr(same, "GOLDEN", file)
    monkeypatch.setattr(same, "measure", lambda: found)

    assert same.main(["--update"]) == 0
    assert same.main([]) == 0
    assert json.loads(file.read_text(encoding="utf-8")) == found
