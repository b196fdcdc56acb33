"""Lines of users' files, for errors: who called us, under a name that no machine is part of.

Nothing here reads a file; errors quote lines by themselves.
"""

from __future__ import annotations

import linecache
import os
import sys
import sysconfig
from functools import cache
from pathlib import Path
from types import FrameType

from bb_ir.errors import SourceLine

__all__ = ["calling_line", "is_library", "short_file"]

_STDLIB = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib")})
_INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))


def calling_line(*inside: str) -> SourceLine | None:
    """Return the nearest line on the stack of a file that is neither in some folders nor a library.

    Args:
        inside: Folders whose files are passed over, each with a separator at its end.

    Returns:
        The line, or `None` where all of the stack is passed over.
    """
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # cheap, unlike inspect
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(inside) and not is_library(file):
            return SourceLine(short_file(file), frame.f_lineno)
        frame = frame.f_back
    return None


@cache
def is_library(file: str, programs: str = "") -> bool:
    """Tell whether a file is part of Python or was installed as part of a package.

    Args:
        file: Path as Python reports it.
        programs: A part of the paths of files that count as a user's, wherever they are.
    """
    if any(mark in file for mark in _INSTALLED):
        return not programs or programs not in file
    return file.startswith((*_STDLIB, "<frozen ", "<__array_function__"))


@cache
def short_file(file: str) -> str:
    """Cut off the folder that modules are imported from, so that artifacts name no machine."""
    roots = [str(Path.cwd()), *(str(Path(entry or ".").absolute()) for entry in sys.path)]
    inside = [root for root in roots if file.startswith(root + os.sep)]
    if inside:
        return file[len(max(inside, key=len)) + 1 :].replace(os.sep, "/")
    name = Path(file).name
    # Errors quote lines by this short name, under which the file could not be found again. Code
    # that was compiled from a text may have that name only.
    if name != file:
        linecache.cache.setdefault(name, (lambda: "".join(linecache.getlines(file)),))
    return name
