"""`bb plan`: manifests, plans of swaps and of caches, checked, shown, carried out, undone."""

from __future__ import annotations

from importlib import import_module

import click

from bb_ir.errors import closest
from bytesandbrains.cli._errors import EXIT_CODES

__all__ = ["command"]

#: Commands in the order of the help, and the modules that have them.
_COMMANDS = {
    "manifest": "_plan_making",
    "swap": "_plan_making",
    "cache": "_plan_caches",
    "verify": "_plan_looking",
    "show": "_plan_looking",
    "apply": "_plan_carrying",
    "rollback": "_plan_carrying",
}


class _Plans(click.Group):
    """Finds a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the work."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        home = _COMMANDS.get(cmd_name)
        if home is None:
            return None
        found: click.Command = getattr(import_module(f"bytesandbrains.cli.{home}"), cmd_name)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; for an unknown one say which was meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = closest(args[0], list(_COMMANDS))
            hint = f"did you mean `bb plan {near}`?" if near else f"it has {', '.join(_COMMANDS)}"
            raise click.UsageError(f"{error.message.rstrip('.')}: {hint}", ctx) from None


@click.group(
    cls=_Plans, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]}
)
def command() -> None:
    """Plans: swap the weights of a model, or move pages of a KV cache.

    A plan is a checked list of data movements in a file. `manifest` and `swap` make one from two
    folders, `cache` from a trace of requests; `apply` carries it out, checks every byte by its
    digest, and commits a swap at once or not at all.
    """
