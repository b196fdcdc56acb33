"""How far a long command is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import click

__all__ = ["Progress", "progress"]

#: Lines that one task prints where there is no terminal.
_LINES = 10


class Progress:
    """Shows nothing; what the others build on."""

    def begin(self, task: str, total: int) -> None:
        """Begin a task of so many steps."""

    def step(self, what: str, figures: Mapping[str, float]) -> None:
        """Report a step that was done."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the screen as it is."""


class _Lines(Progress):
    """A line for the first step, the last, and some between."""

    def __init__(self) -> None:
        self._total = 0
        self._done = 0

    def begin(self, task: str, total: int) -> None:
        self._total, self._done = total, 0

    def step(self, what: str, figures: Mapping[str, float]) -> None:
        self._done += 1
        every = max(1, self._total // _LINES)
        if self._done in (1, self._total) or self._done % every == 0:
            click.echo(f"{what:<16}  {_text(figures)}")


class _Bar(Progress):
    """A bar on stderr."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Rich

        self._rich = Rich(
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[figures]}"),
            console=Console(stderr=True, highlight=False),
        )
        self._task: Any = None

    def begin(self, task: str, total: int) -> None:
        self._task = self._rich.add_task(task, total=total, figures="")

    def step(self, what: str, figures: Mapping[str, float]) -> None:
        self._rich.update(self._task, advance=1, figures=f"{what:<15} {_text(figures)}")

    def __enter__(self) -> Self:
        self._rich.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._rich.stop()


def progress(*, hidden: bool) -> Progress:
    """Return what fits here: nothing, a bar on a terminal, or lines."""
    if hidden:
        return Progress()
    return _Bar() if sys.stderr.isatty() and sys.stdout.isatty() else _Lines()


def _text(figures: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
