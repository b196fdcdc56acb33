"""What holds for one call of `bb`: how much to tell, and whether in JSON."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from bytesandbrains.cli._errors import EXIT_CODES

__all__ = ["Session", "command", "group", "json_option", "of", "verbose_option"]


@dataclass
class Session:
    """Options that every command shares."""

    verbose: int = 0
    as_json: bool = False

    @property
    def debug(self) -> bool:
        """Whether tracebacks are wanted."""
        return self.verbose > 1


def of(ctx: click.Context) -> Session:
    """Return the session of a call."""
    if os.environ.get("NO_COLOR"):
        ctx.find_root().color = False
    session: Session = ctx.find_root().ensure_object(Session)
    return session


def _verbose(ctx: click.Context, _param: click.Parameter, count: int) -> None:
    session = of(ctx)
    session.verbose += count
    level = {0: logging.WARNING, 1: logging.INFO}.get(session.verbose, logging.DEBUG)
    # A handler of its own: what others configured, pytest included, stays as it is.
    logger = logging.getLogger("bytesandbrains")
    logger.setLevel(level)
    if session.verbose and not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        logger.addHandler(handler)


def _json(ctx: click.Context, _param: click.Parameter, value: bool) -> bool:  # noqa: FBT001  # click's signature
    of(ctx).as_json = value
    return value


verbose_option = click.option(
    "-v",
    "--verbose",
    count=True,
    expose_value=False,
    callback=_verbose,
    help="Log what is done, to stderr; -vv logs everything and shows tracebacks.",
)
json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    is_eager=True,
    callback=_json,
    help="Print JSON to stdout, errors included, and nothing else.",
)


def group(function: Callable[..., Any]) -> click.Group:
    """Make a command that has others beneath it, with the options that all commands have."""
    return click.group(
        epilog=EXIT_CODES,
        context_settings={"help_option_names": ["-h", "--help"]},
        invoke_without_command=True,
    )(verbose_option(json_option(function)))


def command(function: Callable[..., Any]) -> click.Command:
    """Make a command with the options that all commands have, and the exit codes in its help."""
    return click.command(
        epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]}
    )(verbose_option(json_option(function)))
