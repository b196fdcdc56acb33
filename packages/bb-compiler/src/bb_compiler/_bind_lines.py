"""The user's lines that bind slots: noted in the rows of bindings, quoted by errors about them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bb_ir.errors import SourceLine
from bb_ir.source_lines import calling_line

__all__ = ["line_of_call", "line_of_row", "places"]

_HERE = str(Path(__file__).parent) + os.sep
#: Who binds there does so for a command line, which has no line.
_COMMANDS = "bytesandbrains/cli/"


def line_of_call() -> SourceLine | None:
    """Return the user's line that called the compiler, if there is one."""
    line = calling_line(_HERE)
    return None if line is None or line.file.startswith(_COMMANDS) else line


def line_of_row(row: Mapping[str, Any]) -> SourceLine | None:
    """Return the user's line that made a binding, if one did."""
    return SourceLine.parse(row["line"]) if row.get("line") else None


def places(*lines: SourceLine | None) -> tuple[SourceLine, ...]:
    """Return those lines that are known, each once."""
    return tuple(dict.fromkeys(line for line in lines if line is not None))
