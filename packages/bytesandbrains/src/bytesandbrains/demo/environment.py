"""What the demo needs around it: its parts installed, and BLAS on one thread."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from bb_ir.errors import BytesAndBrainsError

__all__ = ["DemoPartsMissing", "need_parts", "need_plans", "one_blas_thread"]

_PLUGINS = (
    "aggregator.fedavg",
    "data_source.digits",
    "model.mlp",
    "peer_selector.static",
)
_PLANNING = ("data_source.trace", "executor.cpu", "planner.kvcache", "planner.swap")
_VARIABLES = (
    "BLIS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class DemoPartsMissing(BytesAndBrainsError):
    """The demo's plugins or libraries are not installed.

    `pip install "bytesandbrains[demo]"` brings them, and `[plans]` those of `bb demo plans`;
    `BB_PLUGINS` in the environment may hide them.
    """


def need_parts(*, plot: bool) -> None:
    """See that everything is installed, from metadata alone.

    Raises:
        DemoPartsMissing: Something is not.
    """
    _need(_PLUGINS, ["sklearn", *(["matplotlib"] if plot else [])], "demo")


def need_plans() -> None:
    """See that everything is installed that the demo of plans needs, from metadata alone.

    Raises:
        DemoPartsMissing: Something is not.
    """
    _need(_PLANNING, [], "plans")


def _need(plugins: Sequence[str], libraries: Sequence[str], extra: str) -> None:
    from bb_roles.registry import installed

    there = {f"{one.kind}.{one.name}" for one in installed()}
    missing = [f"plugin {name}" for name in plugins if name not in there]
    missing += [name for name in libraries if find_spec(name) is None]
    if missing:
        raise DemoPartsMissing(
            f"the demo needs {', '.join(missing)}, not installed here",
            fix=f'pip install "bytesandbrains[{extra}]"',
        )


@contextmanager
def one_blas_thread() -> Generator[None]:
    """Let BLAS use one thread: small products gain nothing from more, and sums keep their order.

    Before numpy is imported the environment decides; afterwards only threadpoolctl can.
    """
    if "numpy" in sys.modules:
        try:
            control: Any = import_module("threadpoolctl")  # it ships no types
        except ImportError:
            yield
            return
        with control.threadpool_limits(1, user_api="blas"):
            yield
        return
    before = {name: os.environ.get(name) for name in _VARIABLES}
    os.environ.update(dict.fromkeys(_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
