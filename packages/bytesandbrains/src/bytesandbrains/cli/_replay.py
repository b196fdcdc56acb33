"""`bb replay`: does again what a Node did, and compares two runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import click

from bytesandbrains.cli import _session
from bytesandbrains.cli._errors import Exit
from bytesandbrains.cli._json import print_json

if TYPE_CHECKING:
    from bb_ir.errors import SourceLine
    from bb_runtime.journal import Record
    from bb_runtime.replay import Entry, Replay, Stopped
    from bytesandbrains.journal import JournalFiles

__all__ = ["command"]

#: Values with so many elements or fewer are printed.
_SMALL = 8
_LONG = 100


@_session.command
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--until", type=click.IntRange(1), metavar="N", help="Stop after record N.")
@click.option("--break", "before", default="", metavar="OP",
              help="Stop before an op, such as Fit or model.Fit, and show its frame.")  # fmt: skip
@click.option("--diff", "other", type=click.Path(path_type=Path), metavar="OTHER",
              help="Show the first step at which another journal parts from this one.")  # fmt: skip
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    file: Path,
    until: int | None,
    before: str,
    other: Path | None,
    as_json: bool,
) -> None:
    """Do again what a Node did, from its journal, and check that every step is the same.

    FILE is the folder of a Node's journal, as `bb run --journal DIR` writes one for each Node, or a
    segment in it that begins with a snapshot. The components that its artifact names have to be
    installed, or found from here. A journal is trusted as a program is: replay only your own.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    if other is not None:
        if before:
            raise click.UsageError("--break and --diff do not go together")
        ctx.exit(_compare(file, other, until, as_json=as_json))
    ctx.exit(_replay(file, until, before, as_json=as_json))


def _replay(file: Path, until: int | None, before: str, *, as_json: bool) -> Exit:
    from bb_runtime.replay import Replay
    from bytesandbrains.journal import read_journal

    records = read_journal(file)
    replayed = Replay(records, until=until, before=before)
    told = _Timeline(replayed, quiet=as_json)
    for entry in replayed:
        told.add(entry)
    stopped = replayed.stopped
    if as_json:
        print_json(_data(replayed, records, told))
    else:
        _print_end(replayed, records)
        if before and stopped is None:
            click.echo(f"op {before} was not reached", err=True)
    return Exit.FAILED if before and stopped is None else Exit.OK


class _Timeline:
    """What was done, line by line; kept for JSON, printed else."""

    def __init__(self, replayed: Replay, *, quiet: bool) -> None:
        self._replayed = replayed
        self._quiet = quiet
        self.entries: list[dict[str, Any]] = []
        if not quiet:
            click.echo(_first_line(replayed))

    def add(self, entry: Entry) -> None:
        """Tell of one call."""
        steps = [self._replayed.tell(step) for step in entry.steps]
        if self._quiet:
            told_steps = [
                {"kind": s.kind, "what": s.what, "op": s.op, "frame": s.frame and s.frame.number,
                 "source": s.source and str(s.source)}
                for s in steps
            ]  # fmt: skip
            self.entries.append(
                {"record": entry.record, "now_ns": entry.now_ns, "call": entry.call,
                 "about": entry.about, "raised": entry.raised, "steps": told_steps}
            )  # fmt: skip
            return
        if entry.call in ("poll", "sent") and not steps and not entry.raised:
            return  # a host polls until nothing comes, and tells of every envelope
        raised = f"  raised {entry.raised}" if entry.raised else ""
        time = f"{entry.now_ns / 1e9:.3f}s"
        click.echo(f"{entry.record:>6}  {time:>10}  {entry.call} {entry.about}".rstrip() + raised)
        for step in steps:
            frame = f"  frame {step.frame.number}" if step.frame is not None else ""
            click.echo(f"{'':>20}{step.kind:<10}  {step.what}{frame}")


def _first_line(replayed: Replay) -> str:
    node, facts = replayed.node, replayed.facts
    return f"{', '.join(node.targets)} on {node.peer}; seed {facts['seed']}"


def _print_end(replayed: Replay, records: JournalFiles) -> None:
    for line in _notes(replayed, records):
        click.echo(line)
    if replayed.stopped is not None:
        _print_stopped(replayed.stopped)


def _notes(replayed: Replay, records: JournalFiles) -> list[str]:
    found = [f"{replayed.records} records, {replayed.steps} steps, all as recorded"]
    if records.cut:
        found.append(f"cut off {records.cut} bytes of a record that was never written to its end")
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
    _print_source(stopped.source)
    for title, values in (("it is given", stopped.inputs), ("the frame holds", stopped.values)):
        click.echo(f"  {title}:" if values else f"  {title} nothing")
        for name, value in values.items():
            click.echo(f"    {name} = {_text(value)}")


def _print_source(source: SourceLine | None) -> None:
    if source is not None:
        from bytesandbrains.cli._errors import line_of

        click.echo(f"  --> {source}")
        if text := line_of(source):
            click.echo(f"   |  {text}")


def _text(value: Any) -> str:
    """Return a value in one line: its type, its shape, and what is in it when that is little."""
    from bb_ir.params import ParameterSet

    if isinstance(value, ParameterSet):
        tensors = ", ".join(f"{name} {_text(array)}" for name, array in value.items())
        return _cut(f"params of {value.count:,} elements: {tensors}")
    shape = getattr(value, "shape", None)
    if shape is not None and hasattr(value, "dtype"):
        dims = list(cast("tuple[int, ...]", shape))
        held = f" = {value.tolist()}" if value.size <= _SMALL else ""
        return f"{value.dtype}{dims}{held}"
    return _cut(f"{type(value).__name__} {value!r}")


def _cut(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[: _LONG - 3]}..."


def _data(replayed: Replay, records: JournalFiles, told: _Timeline) -> dict[str, Any]:
    stopped = replayed.stopped
    return {
        "peer": str(replayed.node.peer),
        "targets": list(replayed.node.targets),
        "records": replayed.records,
        "steps": replayed.steps,
        "cut_bytes": records.cut,
        "interrupted": replayed.interrupted,
        "entries": told.entries,
        "stopped": None
        if stopped is None
        else {
            "record": stopped.record,
            "op": stopped.op,
            "target": stopped.target,
            "region": stopped.region,
            "frame": stopped.frame.number,
            "source": stopped.source and str(stopped.source),
            "inputs": {name: _text(value) for name, value in stopped.inputs.items()},
            "values": {name: _text(value) for name, value in stopped.values.items()},
        },
    }


# Two journals


class _Place(NamedTuple):
    """A step of a journal: the number of its record, which of its steps, and its digest."""

    record: int
    at: int
    digest: bytes


def _compare(file: Path, other: Path, until: int | None, *, as_json: bool) -> Exit:
    """Show where two runs part."""
    from bytesandbrains.journal import read_journal

    made = [_differing_facts(path) for path in (file, other)]
    differing = {
        name: (made[0].get(name), made[1].get(name))
        for name in made[0]
        if made[0].get(name) != made[1].get(name)
    }
    pairs = zip_longest(_places(read_journal(file), until), _places(read_journal(other), until))
    parted = next((pair for pair in pairs if not _same(*pair)), None)
    sides = [_side(path, place) for path, place in zip((file, other), parted or (), strict=False)]
    if as_json:
        print_json({"differing": differing, "parted": sides})
    else:
        _print_parted(differing, sides, (file, other))
    return Exit.FAILED if parted else Exit.OK


def _differing_facts(path: Path) -> dict[str, Any]:
    """Return what a Node is made of, as far as two runs may differ in it."""
    from bb_runtime.journal import Kind, read_table
    from bytesandbrains.journal import read_journal

    for record in read_journal(path):
        if record.kind == Kind.INSTALL:
            table = read_table(record)
            names = ("peer", "program", "targets", "seed", "incarnation", "options", "config")
            return {name: str(table.get(name)) for name in names}
        break
    return {}


def _places(records: Iterator[Record] | JournalFiles, until: int | None) -> Iterator[_Place]:
    from bb_runtime.journal import Kind, read_steps

    for record in records:
        if until is not None and record.number > until:
            return
        if record.kind == Kind.STEPS:
            for index, digest in enumerate(read_steps(record)):
                yield _Place(record.number, index, digest)


def _same(one: _Place | None, two: _Place | None) -> bool:
    return one is not None and two is not None and one.digest == two.digest


def _side(path: Path, place: _Place | None) -> dict[str, Any] | None:
    """Return what a journal's Node reported at a place; the Node does it again."""
    from bb_runtime.replay import Replay
    from bytesandbrains.journal import read_journal

    if place is None:
        return None
    replayed = Replay(read_journal(path), until=place.record)
    last: Entry | None = None
    for entry in replayed:
        last = entry
    if last is None or place.at >= len(last.steps):
        return None
    step = last.steps[place.at]
    about = replayed.tell(step)
    value = getattr(step, "value", None)
    return {
        "record": last.record,
        "now_ns": last.now_ns,
        "step": place.at + 1,
        "kind": about.kind,
        "what": about.what,
        "op": about.op,
        "frame": about.frame and about.frame.number,
        "source": about.source and str(about.source),
        "value": None if value is None else _text(value),
    }


def _print_parted(
    differing: dict[str, tuple[Any, Any]],
    sides: list[dict[str, Any] | None],
    paths: tuple[Path, Path],
) -> None:
    from bb_ir.errors import SourceLine

    for name, (one, two) in differing.items():
        click.echo(f"made otherwise: {name}: {_cut(one)} / {_cut(two)}")
    if not sides:
        click.echo("all steps are the same")
        return
    click.echo("the first step at which they part:")
    for path, side in zip(paths, sides, strict=True):
        if side is None:
            click.echo(f"  {path}: ended before")
            continue
        frame = f", frame {side['frame']}" if side["frame"] is not None else ""
        value = f" = {side['value']}" if side["value"] is not None else ""
        place = f"record {side['record']}, {side['now_ns'] / 1e9:.3f}s, step {side['step']}"
        click.echo(f"  {path}: {place}: {side['kind']} {side['what']}{value}{frame}")
        if side["source"]:
            _print_source(SourceLine.parse(side["source"]))
