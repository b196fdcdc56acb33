"""`bb snapshot`: what is in a snapshot."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bytesandbrains.cli import _session
from bytesandbrains.cli._json import print_json
from bytesandbrains.cli._paths import PATH

if TYPE_CHECKING:
    from bb_runtime.snapshots import SavedNode, Snapshot

__all__ = ["command"]

_KILO = 1024


@_session.command
@click.argument("file", type=PATH)
def command(*, file: Path, as_json: bool) -> None:
    """Show what is in a snapshot, and check that it is whole.

    FILE is what save_snapshot or save_federation wrote. Nothing of it is run, and no plugin is
    needed. Values are not shown: a snapshot holds what its Nodes know.
    """
    from bb_runtime.errors import SnapshotError
    from bb_runtime.snapshots import read_snapshot

    try:
        data, written = file.read_bytes(), file.stat().st_mtime
    except OSError as error:
        raise SnapshotError(
            f"{str(file)!r} cannot be read: {error.strerror or error}",
            expected="a file that save_snapshot or save_federation has written",
            fix="check the path",
        ) from error
    try:
        found = read_snapshot(data)
    except SnapshotError as error:
        error.where = (str(file), *error.where)
        raise
    when = datetime.fromtimestamp(written, UTC).isoformat(timespec="seconds")
    if as_json:
        print_json({"snapshot": {**dataclasses.asdict(found), "written": when}})
    else:
        _print(found, when)


def _print(found: Snapshot, when: str) -> None:
    from bytesandbrains.cli._screen import Screen, table

    screen = Screen()
    programs = dict.fromkeys(node.program[:12] for node in found.nodes)
    facts = [
        ("snapshot of", "a Node" if found.kind == "node" else f"{len(found.nodes)} Nodes"),
        ("program", ", ".join(programs)),
        ("format", f"{found.version}, whole: its checksum is right"),
        ("size", _size(found.size)),
        ("written", when),
    ]
    if found.kind == "bus":
        on_the_way = f"{found.flying} envelopes, {_size(found.flying_size)}"
        facts.append(("on the way", on_the_way + (f"; {found.told} steps" if found.told else "")))
    screen.print(table(["", ""], facts))
    for node in found.nodes:
        screen.print()
        _print_node(screen, node)


def _print_node(screen: Any, node: SavedNode) -> None:
    from rich.markup import escape

    from bytesandbrains.cli._screen import table

    names = ", ".join(name.partition("#")[0] for name in node.targets)
    screen.print(f"[bold]{escape(names)}[/]  {node.peer}")
    facts = [
        ("incarnation", str(node.incarnation)),
        ("clock", f"{node.now_ns / 1e9:.3f}s"),
        ("in flight", escape(_counted(node.frames)) or "nothing"),
        ("in line", escape(_counted(node.queued))),
        ("begun elsewhere", f"{node.works} pieces of work" if node.works else ""),
        ("ahead", f"{node.timers} deadlines and ticks" if node.timers else ""),
        ("not polled", f"{node.steps} steps" if node.steps else ""),
        ("not sent", f"{node.unsent} envelopes" if node.unsent else ""),
        ("knows", f"{node.peers} peers"),
    ]
    facts += [
        (escape(one.slots), f"{escape(one.component)}: {one.tensors} tensors, {_size(one.size)}")
        for one in node.components
    ]
    screen.print(table(["", ""], [row for row in facts if row[1]]))


def _counted(frames: dict[str, int]) -> str:
    return ", ".join(f"{count} x {name}" for name, count in frames.items())


def _size(count: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < _KILO:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= _KILO
    return f"{count:,.1f} GiB"
