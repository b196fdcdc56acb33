"""`bb replay`: does again what a Node did, and compares two runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from bytesandbrains.cli import _session
from bytesandbrains.cli._errors import Exit
from bytesandbrains.cli._json import print_json
from bytesandbrains.cli._progress import reading
from bytesandbrains.cli._sources import print_source
from bytesandbrains.cli._timeline import data_of, lines_of, quiet
from bytesandbrains.cli._values import text_of

if TYPE_CHECKING:
    from bb_runtime.replay import Replay, Stopped
    from bytesandbrains.journal import JournalFiles

__all__ = ["command"]


@_session.command
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--until", type=click.IntRange(1), metavar="N", help="Stop after record N.")
@click.option("--break", "before", default="", metavar="OP",
              help="Stop before an op, such as Fit or model.Fit, and show its frame.")  # fmt: skip
@click.option("--diff", "other", type=click.Path(path_type=Path), metavar="OTHER",
              help="Show the first step at which another journal parts from this one.")  # fmt: skip
@click.option("--config", "given", multiple=True, metavar="FILE|SLOT.FIELD=VALUE",
              help="Configuration that the journal leaves out, such as secrets: a file as "
              "`bb run` takes it, or one field.")  # fmt: skip
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    file: Path,
    until: int | None,
    before: str,
    other: Path | None,
    given: tuple[str, ...],
    as_json: bool,
) -> None:
    """Do again what a Node did, from its journal, and check that every step is the same.

    FILE is the folder of a Node's journal, as `bb run --journal DIR` and `bb sim --journal DIR`
    write one for each Node, or a segment in it that begins with a snapshot. The components that
    its artifact names have to be installed, or found from here. A journal is trusted as a program
    is: replay only your own.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    if other is None:
        ctx.exit(_replay(file, until, before, given, as_json=as_json))
    if before:
        raise click.UsageError("--break and --diff do not go together")
    from bytesandbrains.cli._replay_diff import compare

    ctx.exit(compare((file, other), until, given, as_json=as_json))


def _replay(
    file: Path, until: int | None, before: str, given: tuple[str, ...], *, as_json: bool
) -> Exit:
    from bb_runtime.replay import Replay
    from bytesandbrains.cli._lacking import fill_in
    from bytesandbrains.journal import read_journal

    records = read_journal(file)
    config = fill_in(records, given) if given else None
    replayed = Replay(records, until=until, before=before, config=config)
    if not as_json:
        click.echo(f"{', '.join(replayed.node.targets)} on {replayed.node.peer}; "
                   f"seed {replayed.facts['seed']}")  # fmt: skip
    entries: list[dict[str, Any]] = []
    # Lines on a terminal tell how far it is.
    with reading(str(file), records.size, hidden=not as_json and sys.stdout.isatty()) as at:
        for entry in replayed:
            at(records.position)
            if as_json:
                entries.append(data_of(replayed, entry))
            elif not quiet(entry):
                click.echo("\n".join(lines_of(replayed, entry)))
    stopped = replayed.stopped
    if as_json:
        print_json(_data(replayed, records, entries))
    else:
        _print_end(replayed, records)
        if before and stopped is None:
            click.echo(f"op {before} was not reached", err=True)
    return Exit.FAILED if before and stopped is None else Exit.OK


def _print_end(replayed: Replay, records: JournalFiles) -> None:
    for line in _notes(replayed, records):
        click.echo(line)
    if replayed.stopped is not None:
        _print_stopped(replayed.stopped)


def _notes(replayed: Replay, records: JournalFiles) -> list[str]:
    found = [f"{replayed.records} records, {replayed.steps} steps, all as recorded"]
    if records.cut:
        found.append(f"cut off {records.cut:,} bytes of a record that was never written to its end")
    if replayed.interrupted:
        found.append("the Node was interrupted in the next call, as by Ctrl-C")
    now = _fingerprint()
    then: Any = replayed.facts.get("fingerprint")
    if isinstance(then, Mapping) and cast("Mapping[str, Any]", then).get("fingerprint") != now:
        found.append(f"recorded on fingerprint {then['fingerprint']}; this is {now}")
    return found


def _fingerprint() -> str:
    from bytesandbrains.fingerprint import fingerprint

    return fingerprint().fingerprint


def _print_stopped(stopped: Stopped) -> None:
    where = f"{stopped.target}, region {stopped.region}, frame {stopped.frame.number}"
    click.echo(f"stopped before {stopped.op} in record {stopped.record}: {where}")
    print_source(stopped.source)
    for title, values in (("it is given", stopped.inputs), ("the frame holds", stopped.values)):
        click.echo(f"  {title}:" if values else f"  {title} nothing")
        for name, value in values.items():
            click.echo(f"    {name} = {text_of(value)}")


def _data(replayed: Replay, records: JournalFiles, entries: list[dict[str, Any]]) -> dict[str, Any]:
    stopped = replayed.stopped
    return {
        "peer": str(replayed.node.peer),
        "targets": list(replayed.node.targets),
        "records": replayed.records,
        "steps": replayed.steps,
        "cut_bytes": records.cut,
        "interrupted": replayed.interrupted,
        "entries": entries,
        "stopped": None
        if stopped is None
        else {
            "record": stopped.record,
            "op": stopped.op,
            "target": stopped.target,
            "region": stopped.region,
            "frame": stopped.frame.number,
            "source": stopped.source and str(stopped.source),
            "inputs": {name: text_of(value) for name, value in stopped.inputs.items()},
            "values": {name: text_of(value) for name, value in stopped.values.items()},
        },
    }
