"""Options and fixtures of the test suite that no single package owns."""

import gc
import json
import os
import tomllib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# What continuous integration finds must not depend on luck; elsewhere every run looks further.
settings.register_profile("ci", derandomize=True, deadline=None)
if "CI" in os.environ:
    settings.load_profile("ci")

# Members that are too large to be installed everywhere have a session of their own.
_LOCKSTEP = tomllib.loads(Path(__file__).with_name("release.toml").read_text())["lockstep"]
collect_ignore = [
    folder
    for folder in _LOCKSTEP["apart"]
    if find_spec(Path(folder).name.replace("-", "_")) is None
]


def pytest_report_header() -> list[str]:
    return [f"not collected, as it is not installed: {folder}" for folder in collect_ignore]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-public-api",
        action="store_true",
        help="write tests/public_api.txt anew from the names that are public now",
    )


def pytest_collection_finish() -> None:
    """Leave what was collected, thousands of tests, out of every later garbage collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def compiled() -> Callable[..., Any]:
    """Compile a Module as users do: a slot gets the part of its role unless a class is given."""
    from bb_compiler import Compiler
    from bb_ir import keys, onnx_tools
    from bb_runtime import load_artifact
    from bb_testing import programs

    standing_in = {
        "aggregator": programs.SumAggregator,
        "backend": programs.PlainBackend,
        "data_source": programs.ListSource,
        "model": programs.CountingModel,
        "peer_selector": programs.FixedPeers,
    }

    def compile_(module: Any, **parts: type) -> Any:
        model = module.build()
        slots = json.loads(onnx_tools.get_meta(model, keys.SLOTS))
        compiler = Compiler()
        for slot, facts in slots.items():
            compiler.bind(slot, parts.pop(slot, None) or standing_in[facts["role"]])
        for slot, part in parts.items():
            compiler.bind(slot, part)
        return load_artifact(compiler.compile(model).SerializeToString())

    return compile_
