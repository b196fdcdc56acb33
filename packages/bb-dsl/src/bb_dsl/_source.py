"""Finds the user's file and line behind a recorded op."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import FrameType

from bb_ir.errors import SourceLine
from bb_ir.source_lines import is_library, short_file

__all__ = ["user_line"]

#: Names of the functions through which every method of a slot, and every function that records
#: ops of a plugin, is called.
_CALLS = ("method_of_slot", "function_of_plugin")

_HERE = str(Path(__file__).parent) + os.sep
#: Programs of ours are code that a reader may look into, wherever they are installed.
_PROGRAMS = f"{os.sep}bytesandbrains{os.sep}programs{os.sep}"


def user_line() -> SourceLine:
    """Return the nearest line on the stack that is neither part of this package nor of a library.

    What lies between the recorder that calls a body and the recorder that the body calls is the
    user's, except for methods of slots and functions that a plugin brings. Where all of it is
    installed, the body itself is, and the nearest line is told.
    """
    frame = sys._getframe(1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # cheap, unlike inspect
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
        frame = frame.f_back
    while caller := _caller_of_handle(frame):
        frame = caller
    outer: FrameType | None = frame
    while outer and not outer.f_code.co_filename.startswith(_HERE):
        if not is_library(outer.f_code.co_filename, _PROGRAMS):
            frame = outer
            break
        outer = outer.f_back
    return SourceLine(short_file(frame.f_code.co_filename), frame.f_lineno)


def _caller_of_handle(frame: FrameType | None) -> FrameType | None:
    """Return who called the method or function of a plugin that a frame is part of."""
    while frame and not frame.f_code.co_filename.startswith(_HERE):
        frame = frame.f_back
    called_by_handle = frame is not None and frame.f_code.co_name in _CALLS
    return frame.f_back if frame is not None and called_by_handle else None
