"""Finds the user's file and line behind a recorded op."""

from __future__ import annotations

import linecache
import os
import sys
from functools import cache
from pathlib import Path

from bb_ir.errors import SourceLine

__all__ = ["user_line"]

_HERE = str(Path(__file__).parent) + os.sep


def user_line() -> SourceLine:
    """Return the nearest line on the stack that is not part of this package."""
    frame = sys._getframe(1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # cheap, unlike inspect
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
        frame = frame.f_back
    return SourceLine(_short(frame.f_code.co_filename), frame.f_lineno)


@cache
def _short(file: str) -> str:
    """Cut off the folder that modules are imported from, so that artifacts name no machine."""
    roots = [str(Path.cwd()), *(str(Path(entry or ".").absolute()) for entry in sys.path)]
    inside = [root for root in roots if file.startswith(root + os.sep)]
    if inside:
        return file[len(max(inside, key=len)) + 1 :].replace(os.sep, "/")
    name = Path(file).name
    # Errors quote lines by this short name, under which the file could not be found again.
    linecache.cache.setdefault(name, (lambda: "".join(linecache.getlines(file)),))
    return name
