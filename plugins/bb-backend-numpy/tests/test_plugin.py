"""The light module names the backend and imports nothing heavy."""

import importlib
import subprocess
import sys

import bb_backend_numpy
from bb_roles import Backend, ComponentSpec


def test_hook_describes_the_backend():
    spec = bb_backend_numpy.bb_component()
    assert isinstance(spec, ComponentSpec)
    assert (spec.role, spec.name) == ("backend", "numpy")
    module, _, name = spec.cls.partition(":")
    assert issubclass(getattr(importlib.import_module(module), name), Backend)


def test_light_module_leaves_numpy_alone():
    program = "import sys, bb_backend_numpy; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_backend_leaves_onnx_alone():
    program = "import sys, bb_backend_numpy._backend; sys.exit('onnx' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
