"""`bb new`: begins a plugin of one's own."""

from __future__ import annotations

from pathlib import Path

import click

from bytesandbrains.cli import _session
from bytesandbrains.cli._json import print_json

__all__ = ["command"]

#: The roles, and what else `bb new` writes; a test holds this against `_scaffold.TEMPLATES`.
KINDS = (
    "aggregator", "backend", "codec", "data_source", "index", "model", "peer_selector", "protocol",
    "transport", "planner", "executor", "stage", "command", "op", "type",
)  # fmt: skip
LICENSES = ("Apache-2.0", "BSD-3-Clause", "MIT", "proprietary")


class Kind(click.Choice[str]):
    """A kind of plugin; dashes are as good as underscores."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the kind that was named."""
        return super().convert(value.replace("-", "_"), param, ctx)


@_session.command
@click.argument("kind", type=Kind(KINDS), metavar="KIND")
@click.argument("name")
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    metavar="DIR",
    help="Where the project's folder goes; here if not given.",
)
@click.option(
    "--license",
    "licence",
    type=click.Choice(LICENSES),
    default="Apache-2.0",
    show_default=True,
    help="Whose text goes into LICENSE.",
)
@click.option("--author", metavar="NAME", help="Who holds the copyright.")
def command(
    *, kind: str, name: str, into: Path, licence: str, author: str | None, as_json: bool
) -> None:
    """Begin a plugin: write a whole distribution that works and passes its tests.

    KIND is a role (aggregator, backend, codec, data_source, index, model, peer_selector, protocol)
    or transport, planner, executor, stage, command, op, type. NAME is that of the distribution, and
    the name by which programs bind the plugin. What is written does something simple and real:
    change it to what you want, and keep the tests of the conformance suite passing. Nothing is
    overwritten.

    For example: bb new aggregator my-agg
    """
    from bytesandbrains._scaffold import check_name, write_project
    from bytesandbrains.cli._main import COMMANDS

    names = check_name(kind, name, taken=COMMANDS if kind == "command" else ())
    holder = author or f"The authors of {name}"
    project = write_project(kind, names, into, licence=licence, author=holder)
    steps = [
        f"cd {project.folder}",
        'pip install -e ".[test]"',
        "pytest",
        f"bb plugins show {names.point}",
    ]
    if as_json:
        told = {
            "kind": kind,
            "folder": str(project.folder),
            **names._asdict(),
            "files": list(project.files),
        }
        print_json({"project": told, "next": steps})
        return
    click.echo(f"wrote {project.folder}: {len(project.files)} files")
    for file in project.files:
        click.echo(f"  {file}")
    click.echo("\nnext:")
    for step in steps:
        click.echo(f"  {step}")
    main = f"src/{names.package}/_{kind}.py"
    click.echo(f"\nthen make {main} do what you want, and keep the tests passing")
