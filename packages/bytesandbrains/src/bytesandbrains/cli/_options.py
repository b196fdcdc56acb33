"""Options of the commands that take a program."""

from __future__ import annotations

import click

__all__ = ["arg_option", "bind_option", "parse_pairs"]


def parse_pairs(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    """Read options of the form `NAME=VALUE`; the last one of a name wins."""
    pairs: dict[str, str] = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name.strip() or not text.strip():
            raise click.BadParameter(f"{value!r} is not of the form NAME=VALUE")
        pairs[name.strip()] = text.strip()
    return pairs


bind_option = click.option(
    "--bind",
    "binds",
    multiple=True,
    callback=parse_pairs,
    metavar="SLOT=COMPONENT",
    help="Fill a slot: with an installed component, or module:Class. Write CLASS.SLOT for one "
    "peer class only. Wins over `bindings` of the Module.",
)
arg_option = click.option(
    "--arg",
    "arguments",
    multiple=True,
    callback=parse_pairs,
    metavar="NAME=VALUE",
    help="An argument of the Module's constructor, as a Python literal.",
)
