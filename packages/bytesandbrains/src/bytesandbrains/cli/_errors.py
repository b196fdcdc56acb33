"""How an error looks and with which code the command ends: one place for all of them."""

from __future__ import annotations

import sys
from enum import IntEnum
from pathlib import Path
from typing import Any

import click

from bb_ir.errors import BytesAndBrainsError, SourceLine
from bytesandbrains.cli._json import print_json

__all__ = ["EXIT_CODES", "CliError", "Exit", "as_data", "as_text", "flatten", "show"]


class Exit(IntEnum):
    """What the exit code of `bb` says."""

    OK = 0
    FAILED = 1
    USAGE = 2
    INPUT = 3
    DEFECT = 70
    INTERRUPTED = 130


EXIT_CODES = (
    "Exit codes: 0 done; 1 the program failed while running, or a plugin is broken; 2 wrong "
    "usage; 3 an input is wrong: program, binding, artifact, configuration or file; 70 a defect "
    "of bytesandbrains; 130 interrupted."
)


class CliError(BytesAndBrainsError):
    """An input of a command that cannot be used."""


def show(error: Exception, *, as_json: bool, debug: bool = False) -> int:
    """Print an error, to stdout as JSON or to stderr for people; return the exit code."""
    if as_json:
        print_json({"errors": [as_data(one) for one in flatten(error)]})
    else:
        for number, one in enumerate(flatten(error)):
            click.echo(("\n" if number else "") + as_text(one, debug=debug), err=True)
    return _code(error)


def flatten(error: Exception) -> list[Exception]:
    """Return the single errors of one that stands for several."""
    parts: tuple[Exception, ...] = getattr(error, "errors", ())
    return list(parts) if parts and isinstance(error, BytesAndBrainsError) else [error]


def as_data(error: Exception) -> dict[str, Any]:
    """Return an error as plain data."""
    if not isinstance(error, BytesAndBrainsError):
        return {"code": "Defect", "found": _foreign(error), "expected": "", "fix": "", "where": []}
    return {
        "code": error.code,
        "found": error.found,
        "expected": error.expected,
        "fix": error.fix,
        "where": [_place(place) for place in error.where],
    }


def as_text(error: Exception, *, debug: bool = False) -> str:
    """Return an error as people read it: what was found, where, what is expected, the fix."""
    if not isinstance(error, BytesAndBrainsError):
        hint = "" if debug else "\n  fix: run it again with -vv for the traceback, and report it"
        return f"{click.style('error[Defect]', fg='red', bold=True)}: {_foreign(error)}{hint}"
    data = as_data(error)
    lines = [f"{click.style(f'error[{error.code}]', fg='red', bold=True)}: {error.found}"]
    for place in data["where"]:
        at = f"{place['file']}:{place['line']}" if "file" in place else place["place"]
        lines.append(f"  {click.style('-->', fg='cyan')} {at}")
        if place.get("text"):
            lines.append(f"   {click.style('|', fg='cyan')}  {place['text']}")
    told = [name for name in ("expected", "fix") if data[name]]
    lines += [f"  {click.style(name, fg='green')}: {data[name]}" for name in told]
    trace = str(getattr(error, "trace", ""))
    if debug and trace:
        lines += ["", trace]
    return "\n".join(lines)


def _place(place: SourceLine | str) -> dict[str, Any]:
    if isinstance(place, str):
        return {"place": place}
    import linecache

    text = linecache.getline(place.file, place.line).strip()
    return {"file": _shown(place.file), "line": place.line, "text": text}


def _shown(file: str) -> str:
    """Return the path of a recorded file as it is seen from here, when it can be found."""
    for folder in ("", *sys.path):
        path = Path(folder, file)
        if path.is_file():
            here = Path.cwd()
            return str(path.relative_to(here)) if path.is_relative_to(here) else file
    return file


def _foreign(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _code(error: Exception) -> Exit:
    if not isinstance(error, BytesAndBrainsError):
        return Exit.DEFECT
    from bb_runtime.errors import DeliveryError, InvalidInput, OpError
    from bytesandbrains.local import FrameFailed

    ran = isinstance(error, FrameFailed | OpError | DeliveryError)
    return Exit.FAILED if ran and not isinstance(error, InvalidInput) else Exit.INPUT
