"""`bb compile`: from a Module to an artifact."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from bytesandbrains.cli import _session
from bytesandbrains.cli._explain import print_summary
from bytesandbrains.cli._json import print_json
from bytesandbrains.cli._options import arg_option, bind_option, config_option, stage_option
from bytesandbrains.cli._program import load_program

__all__ = ["command"]

log = logging.getLogger(__name__)


@_session.command
@click.argument("program")
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write the artifact; <Module>.onnx here when left out.",
)
@bind_option
@config_option
@stage_option
@arg_option
def command(
    *,
    program: str,
    out: Path | None,
    binds: dict[str, str],
    config_file: Path | None,
    stages: tuple[str, ...],
    arguments: dict[str, str],
    as_json: bool,
) -> None:
    """Compile a Module to an artifact that `bb run` and `install` take.

    PROGRAM is FILE.py:NAME or package.module:NAME; NAME may be left out where a file has one
    Module. It names a Module class, a Module, a function that returns one, or a recorded model.
    A class attribute such as `bindings = {"model": "mlp"}` fills slots by default.

    \b
    bb compile my.py:MyModule -o my.onnx --bind model=mlp --arg cohort=8
    """  # noqa: D301  # click's mark for lines that stay
    from bb_compiler.explain import explain
    from bytesandbrains._files import write_atomically
    from bytesandbrains.cli._bindings import How, compile_program

    loaded = load_program(program, arguments)
    log.info("recorded %s: %d functions", program, len(loaded.model.functions))
    artifact = compile_program(loaded, How(binds, stages, config_file))
    told = explain(artifact)
    path = out or Path(f"{told.module}.onnx")
    data = artifact.SerializeToString(deterministic=True)
    write_atomically(path, data)
    if as_json:
        print_json({"file": str(path), "bytes": len(data), **told.to_dict()})
        return
    from bytesandbrains.cli._screen import Screen

    click.echo(f"wrote {path} ({len(data):,} bytes)\n")
    print_summary(told, Screen())
