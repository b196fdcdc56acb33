"""Paths that commands take: not blank, and known to be of use before the work begins."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from bytesandbrains.cli._errors import CliError

__all__ = ["FILE", "FOLDER", "NEW_FILE", "PATH", "PICTURE", "PLOT", "UnfitPath", "need_drawing"]

#: What brings the library that draws.
_DRAWS = 'pip install "bytesandbrains[demo]"'


class UnfitPath(CliError):
    """A file or folder that a command reads is not there, is the other one, or may not be read.

    Like all wrong inputs it ends with exit code 3. The error names the path and, of several, the
    option; nothing was done yet.
    """


class _Path(click.Path):
    """A path that is not blank: a shell variable that is not set would be the folder we are in."""

    def __init__(self, *, dir_okay: bool = True) -> None:
        # Whether it can be read is told by whoever reads it: as a wrong input, not as wrong usage.
        super().__init__(path_type=Path, dir_okay=dir_okay, readable=False)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | Any:
        """Return the path."""
        if not str(value).strip():
            self.fail("it is blank", param, ctx)
        return super().convert(value, param, ctx)


class _Given(_Path):
    """A file or folder that is to be read, and is asked for before the work."""

    def __init__(self, *, folder: bool) -> None:
        super().__init__()
        self._folder = folder
        self.name = "directory" if folder else "file"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | Any:
        """Return the path.

        Raises:
            UnfitPath: It is not there, is the other one, or may not be read.
        """
        path: Any = super().convert(value, param, ctx)
        wanted, other = ("folder", "file") if self._folder else ("file", "folder")
        if not path.exists():
            found = f"there is no {wanted} {str(path)!r}"
        elif path.is_dir() is not self._folder:
            found = f"{str(path)!r} is a {other}"
        elif not os.access(path, os.R_OK):
            found = f"{wanted} {str(path)!r} may not be read"
        else:
            return path
        where = () if param is None or not param.opts[0].startswith("-") else param.opts[0]
        raise UnfitPath(
            found, expected=f"a {wanted} that can be read", fix="check the path", where=where
        )


class _NewFile(_Path):
    """A file that is to be written; its folder is there, which is asked before the work."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | Any:
        """Return the path."""
        path: Any = super().convert(value, param, ctx)
        if not path.parent.is_dir():
            self.fail(f"there is no folder {str(path.parent)!r} to write to", param, ctx)
        if not os.access(path.parent, os.W_OK | os.X_OK):
            self.fail(f"nothing can be written to folder {str(path.parent)!r}", param, ctx)
        return path


class _Picture(_NewFile):
    """A picture that is to be written, of a kind that can be drawn here."""

    def __init__(self, *kinds: str) -> None:
        super().__init__()
        self._kinds = kinds

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | Any:
        """Return the path."""
        path: Any = super().convert(value, param, ctx)
        if path.suffix.lower() not in self._kinds:
            known = " or ".join(self._kinds)
            self.fail(f"{path.name!r} is no picture that can be drawn: name it {known}", param, ctx)
        need_drawing("--plot" if param is None else param.opts[0])
        return path


class _LibraryLacks(click.BadParameter):
    """An option needs a library that is not installed."""

    fix = _DRAWS


def need_drawing(option: str, *, instead: str = "") -> None:
    """Check that pictures can be drawn, from what is installed alone.

    Args:
        option: What asks for one.
        instead: What else can be done.

    Raises:
        BadParameter: They cannot; it tells how to change that.
    """
    if find_spec("matplotlib") is None:
        also = f", or {instead}" if instead else ""
        told = f"drawing needs matplotlib: {_DRAWS}{also}"
        raise _LibraryLacks(told, click.get_current_context(silent=True), param_hint=option)


PATH = _Path()
FILE = _Given(folder=False)
FOLDER = _Given(folder=True)
NEW_FILE = _NewFile()
PICTURE = _Picture(".png", ".svg")
#: A picture that is drawn as PNG only.
PLOT = _Picture(".png")
