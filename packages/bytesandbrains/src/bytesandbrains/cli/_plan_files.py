"""Paths that `bb plan` takes, and pictures that it writes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import click

if TYPE_CHECKING:
    from bb_ir.plan import CachePlan, SwapPlan
    from bb_roles import Report

__all__ = ["FOLDER", "NEW_FILE", "PATH", "PICTURE", "draw", "need_free_folder"]

_KINDS = (".png", ".svg")


class _Path(click.Path):
    """A path that is not blank: a shell variable that is not set would be the folder we are in."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | Any:
        """Return the path."""
        if not str(value).strip():
            self.fail("it is blank", param, ctx)
        return super().convert(value, param, ctx)


class _NewFile(_Path):
    """A file that is to be written; its folder is there, which is asked before the work."""

    def __init__(self, kinds: tuple[str, ...] = ()) -> None:
        super().__init__(path_type=Path, dir_okay=False)
        self._kinds = kinds

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | Any:
        """Return the path."""
        path: Any = super().convert(value, param, ctx)
        if self._kinds and path.suffix not in self._kinds:
            self.fail(f"{path.name!r} ends in neither {' nor '.join(self._kinds)}", param, ctx)
        if self._kinds and find_spec("matplotlib") is None:
            self.fail("drawing needs matplotlib: pip install matplotlib", param, ctx)
        if not path.parent.is_dir():
            self.fail(f"there is no folder {str(path.parent)!r} to write to", param, ctx)
        return path


PATH = _Path(path_type=Path)
FOLDER = _Path(path_type=Path, exists=True, file_okay=False)
NEW_FILE = _NewFile()
PICTURE = _NewFile(_KINDS)


def need_free_folder(folder: Path, option: str, ours: frozenset[str] = frozenset()) -> None:
    """Check before the work that a folder can be made, or is there and has nothing else in it.

    Args:
        folder: The folder.
        option: What it was given with.
        ours: Names that may be in it, and will be written again.

    Raises:
        BadParameter: It is a file, has something in it, or there is no folder for it.
    """
    names = {one.name for one in folder.iterdir()} - ours if folder.is_dir() else set[str]()
    if names:
        found = f"{str(folder)!r} has {min(names)!r} in it; name a folder that is not there yet"
        raise click.BadParameter(found, param_hint=option)
    if folder.is_dir():
        return
    if folder.exists() or folder.is_symlink():
        found = f"{str(folder)!r} is no folder; name one that is not there yet"
        raise click.BadParameter(found, param_hint=option)
    if not folder.parent.is_dir():
        found = f"there is no folder {str(folder.parent)!r} to write to"
        raise click.BadParameter(found, param_hint=option)


def draw(content: CachePlan | SwapPlan, report: Report, file: Path) -> None:
    """Write the picture of a plan.

    Raises:
        CannotWrite: The file cannot be written.
    """
    from bb_plans.pictures import draw_plan
    from bytesandbrains._files import write_atomically

    kind = cast("Literal['png', 'svg']", file.suffix[1:])
    write_atomically(file, draw_plan(content, report, kind))
