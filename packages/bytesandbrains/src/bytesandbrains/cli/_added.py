"""Commands that plugins add to `bb`.

They are listed from metadata. The one that is asked for is imported, and no other; whatever it
raises is its own fault and not that of `bb`.
"""

from __future__ import annotations

from collections.abc import Collection

import click

from bb_ir.errors import BytesAndBrainsError
from bytesandbrains.cli._errors import BrokenCommand

__all__ = ["blamed", "find_command", "rows"]


def rows(taken: Collection[str]) -> list[tuple[str, str]]:
    """Return name and origin of the commands that plugins add; nothing is imported.

    Args:
        taken: Names that `bb` has itself; plugins that claim them are not listed.
    """
    from bb_roles.entry_points import installed, may_be_installed

    if not may_be_installed("command"):
        return []
    return [
        (one.name, f"from {one.distribution} {one.version}")
        for one in installed("command")
        if one.name and one.name not in taken
    ]


def find_command(name: str) -> click.Command | None:
    """Import the command that a plugin adds under a name; `None` when there is none.

    Raises:
        PluginError: It is broken, or provided twice.
    """
    from bb_roles.entry_points import find

    if not find(f"command.{name}"):
        return None
    from bb_roles.errors import PluginError
    from bb_roles.registry import command_object, command_spec

    spec = command_spec(name)
    command = command_object(spec)
    if not isinstance(command, click.Command):
        raise PluginError(
            f"plugin {spec.point} names {spec.command}, which is a {type(command).__name__}",
            expected="a click.Command",
            fix="write @click.command() above the function",
        )
    return command


def blamed(name: str, error: Exception) -> Exception:
    """Return an error of a plugin's command that says whose it is; one that explains itself stays.

    Args:
        name: Name of the command.
        error: What it raised.
    """
    from bb_roles.entry_points import find

    owners = find(f"command.{name}")
    if isinstance(error, BytesAndBrainsError) or not owners:
        return error
    told = BrokenCommand(
        f"command {name!r} of {owners[0].distribution} {owners[0].version} failed: "
        f"{type(error).__name__}: {error}",
        expected="an end, or an error that says what to do",
        fix=f"report it to the authors of {owners[0].distribution}, with what `bb -vv {name}` says",
    )
    told.__cause__ = error
    return told
