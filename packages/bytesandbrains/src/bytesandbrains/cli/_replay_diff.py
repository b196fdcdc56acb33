"""Two journals side by side: the first step at which their Nodes part, and what led there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from bytesandbrains.cli._errors import Exit
from bytesandbrains.cli._json import print_json
from bytesandbrains.cli._lacking import fill_in
from bytesandbrains.cli._progress import reading
from bytesandbrains.cli._sources import print_source
from bytesandbrains.cli._timeline import lines_of, quiet
from bytesandbrains.cli._values import cut, text_of

if TYPE_CHECKING:
    from bb_runtime.artifact import Artifact
    from bb_runtime.journal import Record
    from bb_runtime.replay import Entry
    from bytesandbrains.journal import JournalFiles

__all__ = ["compare"]

#: What of a Node's making two runs may differ in.
_FACTS = ("peer", "program", "targets", "seed", "incarnation", "options", "config")
#: So many calls are shown before the one that brought the step.
_LED = 5


class _Place(NamedTuple):
    """A step of a journal: the number of its record, which of its steps, and its digest."""

    record: int
    at: int
    digest: bytes


class _Steps:
    """The steps of a journal, by their digests; knows how many were given.

    Attributes:
        facts: What the Node is made of.
        first: Number of the first record.
        count: Of steps.
    """

    def __init__(self, path: Path, until: int | None) -> None:
        from bytesandbrains.journal import read_journal

        self.records: JournalFiles = read_journal(path)
        self._until = until
        first = next(iter(self.records), None)
        self.first = 0 if first is None else first.number
        self.facts = _facts(first)
        self.count = 0

    def places(self, start: int, at: Callable[[int], None]) -> Iterator[_Place]:
        """Give the steps from a record on."""
        from bb_runtime.journal import Kind, read_steps

        for record in self.records:
            at(self.records.position)
            if self._until is not None and record.number > self._until:
                return
            if record.kind != Kind.STEPS or record.number < start:
                continue
            for index, digest in enumerate(read_steps(record)):
                self.count += 1
                yield _Place(record.number, index, digest)


def _facts(first: Record | None) -> dict[str, str]:
    from bb_runtime.journal import Kind, read_table

    if first is None or first.kind != Kind.INSTALL:
        return {}
    table = read_table(first)
    return {name: str(table.get(name)) for name in _FACTS}


def compare(
    paths: tuple[Path, Path], until: int | None, given: tuple[str, ...], *, as_json: bool
) -> Exit:
    """Show where two runs part.

    Args:
        paths: Their journals.
        until: The number of the last record.
        given: What the journals leave out, as `--config` takes it.
        as_json: Whether to print data.
    """
    one, two = runs = [_Steps(path, until) for path in paths]
    differing = {
        name: (held, two.facts.get(name))
        for name, held in one.facts.items()
        if held != two.facts.get(name)
    }
    # Of a journal whose oldest segments were dropped the rest can be compared.
    start = max(run.first for run in runs)
    with reading("comparing", sum(run.records.size for run in runs)) as at:
        pairs = zip_longest(
            one.places(start, lambda done: at(done + two.records.position)),
            two.places(start, lambda done: at(done + one.records.position)),
        )
        parted = next((pair for pair in pairs if not _same(*pair)), None)
    redone = [_redone(path, place, given) for path, place in zip(paths, parted or (), strict=False)]
    sides = [one and one.told for one in redone]
    told: dict[str, Any] = {
        "equal": parted is None,
        "steps": one.count if parted is None else min(run.count for run in runs) - all(sides),
        "from_record": start,
        "differing": differing,
        "parted": sides,
        "apart": _apart(redone),
        "cut_bytes": [run.records.cut for run in runs],
    }
    if as_json:
        print_json(told)
    else:
        _print(told, paths)
    return Exit.FAILED if parted else Exit.OK


def _same(one: _Place | None, two: _Place | None) -> bool:
    return one is not None and two is not None and one.digest == two.digest


class _Redone(NamedTuple):
    """A step that a Node did again, what is told of it, and the Node's artifact."""

    step: tuple[Any, ...]
    told: dict[str, Any]
    artifact: Artifact


def _apart(redone: list[_Redone | None]) -> list[str]:
    """Return in what the steps differ at which two runs part, if both have one there."""
    from bytesandbrains.cli._replay_apart import apart

    match redone:
        case [_Redone() as one, _Redone() as two]:
            return apart(one.step, two.step, one.artifact)
        case _:
            return []


def _redone(path: Path, place: _Place | None, given: tuple[str, ...]) -> _Redone | None:
    """Return what a journal's Node reported at a place; the Node does it again."""
    from bb_runtime.replay import Replay
    from bytesandbrains.journal import read_journal

    if place is None:
        return None
    records = read_journal(path)
    config = fill_in(records, given) if given else None
    replayed = Replay(records, until=place.record, config=config)
    entries: deque[Entry] = deque(maxlen=_LED + 1)
    with reading(str(path), records.size) as at:
        for entry in replayed:
            at(records.position)
            if not quiet(entry):
                entries.append(entry)
    last = entries[-1]
    step = last.steps[place.at]
    about = replayed.tell(step)
    value = getattr(step, "value", None)
    told = {
        "record": last.record,
        "now_ns": last.now_ns,
        "step": place.at + 1,
        "kind": about.kind,
        "what": about.what,
        "op": about.op,
        "frame": about.frame and about.frame.number,
        "source": about.source and str(about.source),
        "value": None if value is None else text_of(value),
        "led_there": [line for entry in list(entries)[:-1] for line in lines_of(replayed, entry)]
        + lines_of(replayed, last)[: 1 + place.at],
    }
    return _Redone(step, told, replayed.artifact)


def _print(told: dict[str, Any], paths: tuple[Path, Path]) -> None:
    for name, (one, two) in told["differing"].items():
        click.echo(f"made otherwise: {name}: {cut(one)} / {cut(two)}")
    if told["from_record"] > 1:
        click.echo(f"compared from record {told['from_record']:,} on: what was before was dropped")
    for path, size in zip(paths, told["cut_bytes"], strict=True):
        if size:
            click.echo(f"{path}: cut off {size:,} bytes of a record that was never written to "
                       "its end")  # fmt: skip
    if told["equal"]:
        click.echo(f"equal: all {told['steps']:,} steps are the same")
        return
    click.echo(f"after {told['steps']:,} equal steps, the first step at which they part:")
    for path, side in zip(paths, told["parted"], strict=True):
        if side is None:
            click.echo(f"{path}: ended before")
        else:
            _print_side(path, side)
    if told["apart"]:
        click.echo("what differs, first / second:")
    for line in told["apart"]:
        click.echo(f"  {line}")


def _print_side(path: Path, side: dict[str, Any]) -> None:
    from bb_ir.errors import SourceLine

    value = f" = {side['value']}" if side["value"] is not None else ""
    click.echo(f"{path}: record {side['record']}, {side['now_ns'] / 1e9:.3f}s, "
               f"step {side['step']}")  # fmt: skip
    about = [
        f"op {side['op']}" if side["op"] else "",
        f"frame {side['frame']}" if side["frame"] is not None else "",
    ]
    told_about = ", ".join(filter(None, about))
    click.echo(f"  {side['kind']} {side['what']}{value}{told_about and f' ({told_about})'}")
    if side["source"]:
        print_source(SourceLine.parse(side["source"]))
    click.echo("  what led there:")
    for line in side["led_there"]:
        click.echo(f"  {line}")
