"""Options of the commands that take a program."""

from __future__ import annotations

import click

from bytesandbrains.cli._paths import PATH

__all__ = ["arg_option", "bind_option", "config_option", "parse_pairs", "stage_option"]


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
stage_option = click.option(
    "--stage",
    "stages",
    multiple=True,
    metavar="NAME",
    help="A stage of the compiler that a plugin adds, run where the plugin says; "
    "`bb plugins stage` lists them.",
)
config_option = click.option(
    "--config",
    "config_file",
    type=PATH,
    metavar="FILE",
    help="What components are configured with, as for `bb run`, in TOML or JSON. Types that "
    "follow are checked and shapes are known; fields with {index} and its like are left to `run`.",
)
