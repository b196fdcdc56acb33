"""Lines of the user's program, as commands print them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from bb_ir.errors import SourceLine

__all__ = ["print_source"]


def print_source(source: SourceLine | None) -> None:
    """Print the user's line that something came from, if it is known."""
    if source is not None:
        from bytesandbrains.cli._errors import line_of

        click.echo(f"  --> {source}")
        if text := line_of(source):
            click.echo(f"   |  {text}")
