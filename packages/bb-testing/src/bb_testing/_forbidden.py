"""A world in which a component may not look at a clock or draw a number of its own.

What is forbidden raises when the component's own package calls it, in any thread. Libraries inside
may: some name their work by a random number, or measure how long it took; what they let that decide
shows in the results.
"""

from __future__ import annotations

import inspect
import os
import random
import secrets
import sys
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

from pytest import MonkeyPatch  # noqa: PT013  # a class, named where annotations need it

__all__ = ["Misdeed", "no_clock_and_no_chance"]

_CLOCKS = (
    "time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns",
    "process_time", "process_time_ns", "localtime", "gmtime",
)  # fmt: skip
_DRAWS = (
    "random", "randrange", "randint", "getrandbits", "randbytes", "choice", "choices", "sample",
    "shuffle", "uniform", "gauss", "normalvariate", "expovariate", "betavariate", "triangular",
)  # fmt: skip
_NUMPY_DRAWS = (
    "rand", "randn", "random", "random_sample", "randint", "choice", "shuffle", "permutation",
    "normal", "uniform", "standard_normal", "bytes", "binomial", "poisson", "exponential",
)  # fmt: skip
_SECRETS = ("choice", "randbelow", "randbits", "token_bytes", "token_hex", "token_urlsafe")


class Misdeed(NamedTuple):
    """A forbidden call.

    Attributes:
        name: What was called.
        place: From where, as file and line.
    """

    name: str
    place: str

    def __str__(self) -> str:
        return f"{self.name}() at {self.place}"


@contextmanager
def no_clock_and_no_chance(package: str) -> Generator[list[Misdeed]]:
    """Let clocks and global random generators raise; give the list of those that were asked.

    Args:
        package: Top-level package of the component; functions that its modules imported by name
            are forbidden there, too.
    """
    misdeeds: list[Misdeed] = []
    forbidden: dict[int, Callable[..., Any]] = {}
    with MonkeyPatch.context() as patch:
        for owner, attribute, name in _targets():
            found = getattr(owner, attribute, None)
            if found is None:
                continue
            raising = _raising(name, found, package, misdeeds)
            forbidden[id(found)] = raising
            patch.setattr(owner, attribute, raising)
        for module in _modules_of(package):
            for attribute, value in list(vars(module).items()):
                if callable(value) and id(value) in forbidden:
                    patch.setattr(module, attribute, forbidden[id(value)])
        yield misdeeds


def _targets() -> Iterator[tuple[Any, str, str]]:
    """Yield what is forbidden: its owner, its attribute there, and its name."""
    import numpy as np

    for name in _CLOCKS:
        yield time, name, f"time.{name}"
    for name in _DRAWS:
        yield random, name, f"random.{name}"
    for name in _NUMPY_DRAWS:
        yield np.random, name, f"numpy.random.{name}"
    for name in _SECRETS:
        yield secrets, name, f"secrets.{name}"
    for name in ("uuid1", "uuid4"):
        yield uuid, name, f"uuid.{name}"
    yield os, "urandom", "os.urandom"


def _raising(
    name: str, original: Callable[..., Any], package: str, misdeeds: list[Misdeed]
) -> Callable[..., Any]:
    def forbidden(*args: Any, **kwargs: Any) -> Any:
        here = inspect.currentframe()
        caller = here.f_back if here else None
        if caller is None or not _is_of(package, caller.f_globals.get("__name__", "")):
            return original(*args, **kwargs)
        # Written down as well: the component may catch what it raises.
        misdeeds.append(Misdeed(name, f"{caller.f_code.co_filename}:{caller.f_lineno}"))
        raise AssertionError(f"{name}() may not be called by a component")

    return forbidden


def _is_of(package: str, module: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _modules_of(package: str) -> list[ModuleType]:
    return [module for name, module in list(sys.modules.items()) if _is_of(package, name)]
