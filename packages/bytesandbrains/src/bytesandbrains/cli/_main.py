"""The group of commands: finds a command when it is asked for, and ends every one the same way.

Command modules import click and nothing heavy at their top, so that `bb --help` is quick; what
they need to work they import when they run.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click

from bb_ir.errors import closest
from bytesandbrains.cli import _added, _session
from bytesandbrains.cli._errors import EXIT_CODES, Exit, show, wrong_usage

__all__ = ["COMMANDS", "main"]

#: Commands in the order of the help.
COMMANDS = (
    "demo", "compile", "explain", "run", "replay", "snapshot", "sim", "plan", "keys", "sign",
    "plugins", "new", "doctor",
)  # fmt: skip
#: Letters that the first sentence of a command has at most.
_SENTENCE = 200


class LazyGroup(click.Group):
    """A group whose commands are modules of this package: `demo` is `_demo.command`.

    Plugins may add others; what this package has cannot be taken by them.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands of this package."""
        return list(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands of this package, then those of plugins, of which none is imported."""
        own = [(name, self.get_command(ctx, name)) for name in COMMANDS]
        with formatter.section("Commands"):
            # In whole sentences: click itself cuts them off where the screen ends.
            formatter.write_dl(
                [(name, one.get_short_help_str(limit=_SENTENCE)) for name, one in own if one]
            )
        rows = _added.rows(COMMANDS)
        if rows:
            with formatter.section("Commands of plugins"):
                formatter.write_dl(rows)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return _added.find_command(cmd_name)
        command: click.Command = import_module(f"bytesandbrains.cli._{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; for an unknown one say which was meant."""
        if "--json" in args:
            # Until the command itself has read its options, which wrong usage keeps it from.
            _session.of(ctx).as_json = True
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            names = [*COMMANDS, *(name for name, _ in _added.rows(COMMANDS))]
            close = closest(args[0], names)
            if not close:
                raise
            told = f"{error.message} Did you mean {close!r}?"
            raise click.UsageError(told, ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; whatever it raises becomes a message and an exit code."""
        session = _session.of(ctx)
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            if not session.as_json:
                raise  # click knows what to do
            show(wrong_usage(error), as_json=True)
            ctx.exit(error.exit_code)
        except (click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            click.echo("\ninterrupted", err=True)
            ctx.exit(Exit.INTERRUPTED)
        except Exception as error:  # noqa: BLE001  # what is not ours is shown as a defect
            asked = ctx.invoked_subcommand
            told = error if asked in (None, *COMMANDS) else _added.blamed(str(asked), error)
            code = show(told, as_json=session.as_json, debug=session.debug)
            if session.debug:
                click.echo("", err=True)
                sys.excepthook(type(error), error, error.__traceback__)
            ctx.exit(code)


def _print_version(ctx: click.Context, _param: click.Parameter, asked: bool) -> None:  # noqa: FBT001  # click's signature
    if asked:
        from importlib.metadata import version

        click.echo(f"bytesandbrains {version('bytesandbrains')}")
        ctx.exit()


@click.group(
    "bb", cls=LazyGroup, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]}
)
@_session.verbose_option
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Print the version and leave.",
)
def main() -> None:
    """Federated and decentralized learning: record, compile and run programs.

    Begin with `bb demo`.
    """
