"""Folders that `bb plan` fills, and pictures that it writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import click

if TYPE_CHECKING:
    from bb_ir.plan import CachePlan, SwapPlan
    from bb_roles import Report

__all__ = ["draw", "need_free_folder"]


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

    kind = cast("Literal['png', 'svg']", file.suffix[1:].lower())
    write_atomically(file, draw_plan(content, report, kind))
