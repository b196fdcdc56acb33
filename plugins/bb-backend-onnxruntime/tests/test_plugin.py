"""The light module names the backend and imports nothing heavy."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import bb_backend_onnxruntime
from bb_roles import Backend, ComponentSpec


def test_hook_describes_the_backend():
    spec = bb_backend_onnxruntime.bb_component()
    assert isinstance(spec, ComponentSpec)
    assert (spec.role, spec.name) == ("backend", "onnxruntime")
    module, _, name = spec.cls.partition(":")
    assert issubclass(getattr(importlib.import_module(module), name), Backend)


@pytest.mark.parametrize("heavy", ["numpy", "onnx", "onnxruntime"])
def test_light_modules_leave_it_alone(heavy):
    program = (
        "import sys, bb_backend_onnxruntime, bb_backend_onnxruntime.errors; "
        f"sys.exit({heavy!r} in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_example_of_the_readme_runs():
    text = (Path(__file__).parents[1] / "README.md").read_text()
    program = text.split("```python\n")[1].split("```")[0]
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[[0.25 0.25 0.25 0.25]]"
    assert done.stdout.strip() in program
