"""What starts often starts fast: numpy, onnx and the plugins wait until they are needed."""

import json
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

GROUP = "bytesandbrains.v1"
HEAVY = ["numpy", "onnx", "matplotlib", "scipy", "sklearn", "torch"]
PLUGINS = sorted({entry.value.partition(":")[0] for entry in entry_points(group=GROUP)})
HELP = """
import sys
from bytesandbrains.cli import main
sys.argv = ["bb", "--help"]
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
"""
LIST = HELP.replace("--help", "plugins")


def modules_after(code: str) -> set[str]:
    """Return the names of all modules that a new Python has after running `code`."""
    ending = "\nimport json, sys\nprint('\\n' + json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-c", code + ending]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("package", ["bytesandbrains", "bb_ir", "bb_roles", "bb_dsl"])
def test_light_package_imports_nothing_heavy(package):
    assert modules_after(f"import {package}").isdisjoint(HEAVY)


@pytest.mark.parametrize("module", PLUGINS)
def test_module_that_declares_a_plugin_imports_nothing_heavy(module):
    assert modules_after(f"import {module}").isdisjoint(HEAVY)


def test_help_imports_nothing_heavy():
    assert modules_after(HELP).isdisjoint(HEAVY)


@pytest.mark.parametrize("code", [HELP, LIST], ids=["help", "plugins"])
def test_command_line_imports_no_plugin(code):
    assert modules_after(code).isdisjoint(PLUGINS)
