"""How far a long command is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import click

__all__ = ["Progress", "on_terminal", "progress", "reading", "working"]

#: Lines that one task prints where there is no terminal.
_LINES = 10
#: What takes less than so many seconds shows no bar.
_MOMENT = 1.0


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
    return _Bar() if on_terminal() else _Lines()


def on_terminal() -> bool:
    """Tell whether somebody looks at a terminal."""
    return sys.stderr.isatty() and sys.stdout.isatty()


@contextmanager
def reading(title: str, size: int, *, hidden: bool = False) -> Generator[Callable[[int], None]]:
    """Show on stderr how far a long reading is; the bar is gone when it ends.

    Nothing is shown where stderr is no terminal, or before a moment has passed.

    Args:
        title: What is read.
        size: Bytes of all.
        hidden: Whether to show nothing in any case.

    Yields:
        Is to be called with the number of bytes that were read.
    """
    if hidden or not sys.stderr.isatty():
        yield lambda _: None
        return
    bar: Any = None
    task: Any = None
    began = time.monotonic()

    def at(position: int) -> None:
        nonlocal bar, task
        if bar is None:
            if time.monotonic() - began < _MOMENT:
                return
            bar = _reading_bar()
            task = bar.add_task(title, total=size)
            bar.start()
        bar.update(task, completed=position)

    try:
        yield at
    finally:
        if bar is not None:
            bar.stop()


@contextmanager
def working(title: str, *, hidden: bool = False) -> Generator[Callable[[str], None]]:
    """Show on stderr that something is under way of which nobody knows how far it is.

    Nothing is shown where stderr is no terminal.

    Args:
        title: What is done.
        hidden: Whether to show nothing in any case.

    Yields:
        Is to be called with what is done next.
    """
    if hidden or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True, highlight=False).status(escape(title)) as status:
        yield lambda text: status.update(escape(text))


def _reading_bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Rich

    return Rich(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        DownloadColumn(binary_units=True),
        TimeRemainingColumn(),
        console=Console(stderr=True, highlight=False),
        transient=True,
        redirect_stdout=False,
    )


def _text(figures: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
