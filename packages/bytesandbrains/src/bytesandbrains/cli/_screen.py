"""Tables and text for people: through rich, plain where there is no terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Screen", "short", "table"]

#: Width of what goes to a file or a pipe: lines are never folded there.
_UNFOLDED = 10_000


class Screen:
    """Where output for people goes; without a terminal it is neither folded nor coloured."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(highlight=False, emoji=False)
        self._terminal = self._console.is_terminal
        if not self._terminal:
            self._console.width = _UNFOLDED

    @property
    def width(self) -> int:
        """Characters that a line may have."""
        return self._console.width

    def print(self, what: Any = "") -> None:
        """Print a table, or a text with rich's markup."""
        with self._console.capture() as captured:
            self._console.print(what)
        text = captured.get()
        # A table fills its lines with spaces, which nobody wants in a file.
        click.echo("\n".join(line.rstrip() for line in text.split("\n")), nl=False)


def short(folder: str) -> str:
    """Return a folder as people would write it from here."""
    path, here, home = Path(folder), Path.cwd(), Path.home()
    if path.is_relative_to(here):
        return str(path.relative_to(here))
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else folder


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a plain table; texts may carry rich's markup. Without headings if all are empty."""
    from rich.table import Table

    made = Table(
        *columns,
        box=None,
        pad_edge=False,
        header_style="bold",
        padding=(0, 2, 0, 0),
        show_header=any(columns),
    )
    for column in made.columns:
        column.overflow = "fold"
    for row in rows:
        made.add_row(*row)
    return made
