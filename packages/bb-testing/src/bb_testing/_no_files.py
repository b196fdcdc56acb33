"""A world without files: what a pure function may not touch raises, and is written down."""

from __future__ import annotations

import builtins
import io
import os
import socket
import subprocess
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from pytest import MonkeyPatch  # noqa: PT013  # a class, named where annotations need it

from bb_testing._forbidden import no_clock_and_no_chance

__all__ = ["arguments_only"]

_OS = (
    "open", "stat", "lstat", "listdir", "scandir", "remove", "unlink", "rename", "replace", "mkdir",
    "rmdir", "getenv", "getcwd", "link", "symlink", "truncate",
)  # fmt: skip


@contextmanager
def arguments_only(package: str, who: str, instead: str) -> Generator[None]:
    """Let clocks, dice and whatever is outside of the process raise; assert that nobody asked.

    Args:
        package: Top-level package of what is tested.
        who: What is tested, such as `plan()`.
        instead: Where what it needs comes from, such as `an argument`.
    """
    with no_clock_and_no_chance(package) as misdeeds, _no_files() as touched:
        try:
            yield
        except Exception:
            caught = [*map(str, misdeeds), *touched]
            assert not caught, f"{who} called {', '.join(caught)}"
            raise
    caught = [*map(str, misdeeds), *touched]
    assert not caught, f"{who} called {', '.join(caught)}: take what it needs as {instead}"


@contextmanager
def _no_files() -> Generator[list[str]]:
    """Let files, folders, sockets and processes raise; give the list of what was asked for."""
    misdeeds: list[str] = []
    with MonkeyPatch.context() as patch:
        for owner, name in (
            (builtins, "open"),
            (io, "open"),
            *((os, name) for name in _OS),
            (socket, "socket"),
            (subprocess, "Popen"),
        ):
            patch.setattr(owner, name, _raising(f"{owner.__name__}.{name}", misdeeds))
        yield misdeeds


def _raising(name: str, misdeeds: list[str]) -> Callable[..., Any]:
    def forbidden(*_args: Any, **_kwargs: Any) -> Any:
        # Written down as well: whoever is tested may catch what it raises.
        misdeeds.append(name)
        raise AssertionError(f"{name}() may not be called")

    return forbidden
