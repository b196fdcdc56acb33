"""Tables and text for people: through rich, plain where there is no terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Screen", "table"]

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
