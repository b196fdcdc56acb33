"""How an error looks and with which code the command ends: one place for all of them."""

from __future__ import annotations

import shutil
import sys
import textwrap
from enum import IntEnum
from pathlib import Path
from typing import Any

import click

from bb_ir.errors import BytesAndBrainsError, SourceLine
from bytesandbrains.cli._json import print_json

__all__ = [
    "EXIT_CODES",
    "BrokenCommand",
    "CliError",
    "Exit",
    "WrongUsage",
    "as_data",
    "as_text",
    "as_texts",
    "flatten",
    "line_of",
    "screen_width",
    "show",
    "wrong_usage",
]

#: Errors that are printed of those that one stage of the compiler found; JSON has them all.
MOST_SHOWN = 20


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
    """An input of a command cannot be used.

    What the errors of `bb` itself are kinds of; it is caught, never raised itself.
    """


class BrokenCommand(CliError):
    """A command that a plugin adds to `bb` came to an end that its author did not foresee.

    The message names the distribution it comes from. Tell its author, with what `bb -vv` prints.
    """


class WrongUsage(CliError):
    """A command is called with options or arguments that it does not take, or lacks one.

    With `--json` it is printed as JSON, like all errors; without, as usual. The exit code is 2.
    """


def wrong_usage(error: click.ClickException) -> WrongUsage:
    """Return what click says of wrong usage as an error of ours."""
    found = error.format_message().removesuffix(".")
    ctx = getattr(error, "ctx", None)
    if ctx is None:
        return WrongUsage(found)
    usage = " ".join(ctx.get_usage().split()).removeprefix("Usage: ")
    fix = getattr(error, "fix", "") or f"`{ctx.command_path} --help` tells more"
    return WrongUsage(found, expected=usage, fix=fix)


def show(error: Exception, *, as_json: bool, debug: bool = False) -> int:
    """Print an error, to stdout as JSON or to stderr for people; return the exit code."""
    if as_json:
        print_json({"errors": [as_data(one) for one in flatten(error)]})
    else:
        click.echo(as_texts(error, debug=debug, width=screen_width()), err=True)
    return _code(error)


def screen_width() -> int | None:
    """Return how wide the terminal is that errors go to; `None` where they go to a file."""
    return shutil.get_terminal_size().columns if sys.stderr.isatty() else None


def flatten(error: Exception) -> list[Exception]:
    """Return the single errors of one that stands for several."""
    parts: tuple[Exception, ...] = getattr(error, "errors", ())
    return list(parts) if parts and isinstance(error, BytesAndBrainsError) else [error]


def as_texts(error: Exception, *, debug: bool = False, width: int | None = None) -> str:
    """Return the single errors of one as people read them, at most `MOST_SHOWN` of them."""
    errors = flatten(error)
    told = [as_text(one, debug=debug, width=width) for one in errors[:MOST_SHOWN]]
    rest = len(errors) - MOST_SHOWN
    return "\n\n".join([*told, f"and {rest} more errors"] if rest > 0 else told)


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


def as_text(error: Exception, *, debug: bool = False, width: int | None = None) -> str:
    """Return an error as people read it: what was found, where, what is expected, the fix.

    Args:
        error: What was raised.
        debug: Whether a traceback belongs to it.
        width: Columns to fold sentences into; `None` leaves them long.
    """
    if not isinstance(error, BytesAndBrainsError):
        lines = _folded("error[Defect]", "red", _foreign(error), width)
        report = "run it again with -vv for the traceback, and report it"
        return "\n".join([*lines, *([] if debug else _folded("  fix", "green", report, width))])
    data = as_data(error)
    lines = _folded(f"error[{error.code}]", "red", error.found, width)
    for place in data["where"]:
        at = f"{place['file']}:{place['line']}" if "file" in place else place["place"]
        lines.append(f"  {click.style('-->', fg='cyan')} {at}")
        if place.get("text"):
            lines.append(f"   {click.style('|', fg='cyan')}  {_cut(place['text'], width)}")
    for name in ("expected", "fix"):
        lines += _folded(f"  {name}", "green", data[name], width) if data[name] else []
    trace = str(getattr(error, "trace", ""))
    if debug and trace:
        lines += ["", trace]
    return "\n".join(lines)


def _folded(label: str, color: str, text: str, width: int | None) -> list[str]:
    """Return a sentence after its label, in lines that are no longer than the screen is wide."""
    lines = f"{label}: {text}".splitlines()
    if width is not None:
        fold = textwrap.TextWrapper(
            width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
        )
        lines = [part for line in lines for part in fold.wrap(line)]
    styled = click.style(label, fg=color, bold=True if color == "red" else None)
    return [lines[0].replace(label, styled, 1), *lines[1:]]


def _cut(line: str, width: int | None) -> str:
    """Return a line of a program as far as the screen is wide."""
    room = len(line) if width is None else width - len("   |  ")
    return line if len(line) <= room else f"{line[: room - 3]}..."


def _place(place: SourceLine | str) -> dict[str, Any]:
    if isinstance(place, str):
        return {"place": place}
    return {"file": _shown(place.file), "line": place.line, "text": line_of(place)}


def line_of(place: SourceLine) -> str:
    """Return a user's line, or an empty text when its file cannot be found."""
    import linecache

    try:
        return linecache.getline(place.file, place.line).strip()
    except ValueError:  # an artifact may name any file, also one that no system can have
        return ""


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
    from bb_plans.errors import FolderOccupied, NotAStore, StaleEpoch, StoreError, VersionUnknown
    from bb_roles.errors import PlanFailed
    from bb_runtime.errors import DeliveryError, InvalidInput, OpError, ReplayDiverged
    from bytesandbrains.local import FrameFailed

    kinds = (
        BrokenCommand, DeliveryError, FrameFailed, OpError, PlanFailed, ReplayDiverged, StoreError,
    )  # fmt: skip
    ran = isinstance(error, kinds)
    # What a store refuses because something was asked of it that cannot be.
    asked = (FolderOccupied, InvalidInput, NotAStore, StaleEpoch, VersionUnknown)
    return Exit.FAILED if ran and not isinstance(error, asked) else Exit.INPUT
