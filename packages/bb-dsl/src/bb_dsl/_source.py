"""Finds the user's file and line behind a recorded op."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

from bb_ir.errors import SourceLine

_HERE = str(Path(__file__).parent)


def user_line() -> SourceLine:
    """Return the nearest line on the stack that is not part of this package."""
    frame = sys._getframe(1)  # noqa: SLF001  # the only way to see the caller without cost
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
        frame = frame.f_back
    return SourceLine(_short(frame.f_code.co_filename), frame.f_lineno)


@cache
def _short(file: str) -> str:
    """Cut off the folder that modules are imported from, so that artifacts name no machine."""
    roots = [str(Path.cwd()), *(str(Path(entry or ".").absolute()) for entry in sys.path)]
    inside = [root for root in roots if file.startswith(root + "/")]
    return file[len(max(inside, key=len)) + 1 :] if inside else Path(file).name
