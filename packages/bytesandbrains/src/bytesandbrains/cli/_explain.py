"""`bb explain`: what is in an artifact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bb_ir.durations import format_duration
from bytesandbrains.cli import _session
from bytesandbrains.cli._json import print_json
from bytesandbrains.cli._options import arg_option, bind_option
from bytesandbrains.cli._program import load_program

if TYPE_CHECKING:
    from bb_compiler.explain import EdgeInfo, Explanation, OpInfo, RegionInfo, TargetInfo
    from bytesandbrains.cli._screen import Screen

__all__ = ["command", "print_summary"]

_HOW = {"inputs": "", "cursor": "placed by cursor", "at": "placed by g.at", "": "added by compiler"}


@_session.command
@click.argument("program")
@bind_option
@arg_option
def command(
    *,
    program: str,
    binds: dict[str, str],
    arguments: dict[str, str],
    as_json: bool,
) -> None:
    """Show what is in an artifact, or in what a Module compiles to.

    PROGRAM is an artifact, FILE.py:NAME or package.module:NAME. For a Module it also says what
    each stage of the compiler changed.

    Ops are listed per region, in order. Notes say what an op waits for besides what it reads, and
    how it got its place where that does not follow from what it reads: by the cursor (where the op
    before it stood) or by `g.at`. --json has all types.
    """
    from bytesandbrains.cli._bindings import explain_program

    told = explain_program(load_program(program, arguments), binds)
    if as_json:
        print_json(told.to_dict())
        return
    from bytesandbrains.cli._screen import Screen

    console = Screen()
    print_summary(told, console)
    for target in told.targets:
        for region in target.regions:
            _print_region(target, region, console)
    _print_cursor(told, console)
    _print_stages(told, console)


def print_summary(told: Explanation, console: Screen) -> None:
    """Print targets, slots and edges."""
    from rich.markup import escape

    from bytesandbrains.cli._screen import table

    console.print(f"[bold]{escape(told.module)}[/]  program {told.program[:16]}\n")
    console.print(
        table(
            ("target", "class", "inputs", "outputs", "hash"),
            [
                (_name(t), t.peer_class, _ports(t.inputs), _ports(t.outputs), t.hash[:16])
                for t in told.targets
            ],
        )
    )
    rows = [
        (b.slot, b.role, b.component, t.peer_class)
        for t in told.targets
        if t.phase == "body"
        for b in t.bindings
    ]
    console.print()
    console.print(table(("slot", "role", "component", "on"), sorted(rows)))
    console.print()
    if told.edges:
        columns = ("edge", "from", "to", "carries", "bytes", "answers", "deadline")
        console.print(table(columns, [_edge(edge) for edge in told.edges]))
    else:
        console.print("no network edges")


def _edge(edge: EdgeInfo) -> tuple[str, ...]:
    carried = ", ".join(port.type for port in edge.ports) or "trigger"
    size = "?" if edge.payload_bytes is None else f"{edge.payload_bytes:,}"
    deadline = format_duration(edge.deadline_ns)
    ends = (edge.source_class, edge.target_class)
    return (edge.name, *ends, _plain(carried), size, edge.answers or "-", deadline)


def _print_region(target: TargetInfo, region: RegionInfo, console: Screen) -> None:
    from rich.markup import escape

    from bytesandbrains.cli._screen import table

    opened = "an invocation" if not _received(region) else f"edge {region.name}"
    inside = f", inside a frame of {region.parent}" if region.parent else ""
    console.print(
        f"\n[bold]{escape(_name(target))} / {escape(region.name)}[/]  on "
        f"{escape(target.peer_class)}; started by {escape(opened)}{escape(inside)}; "
        f"at most {format_duration(region.deadline_ns)}"
    )
    rows = [_op(number, op) for number, op in enumerate(region.ops, 1)]
    console.print(table(("#", "op", "notes", "source"), rows))


def _received(region: RegionInfo) -> bool:
    return any(op.name == "Receive" for op in region.ops)


def _op(number: int, op: OpInfo) -> tuple[str, ...]:
    """Write an op as Python would: `params.3 = model.Params()`."""
    settings = (f"{name}={_value(name, v)}" for name, v in op.attributes.items())
    taken = ", ".join((*(name or "_" for name in op.inputs), *settings))
    given = ", ".join(port.name for port in op.outputs)
    called = f"{op.slot}.{op.name}" if op.slot else op.name
    waits = ", ".join(dict.fromkeys(op.after + op.order))
    notes = (f"after {waits}" if waits else "", _HOW.get(op.placed, op.placed))
    told = "; ".join(note for note in notes if note)
    return str(number), _plain(f"{given} = {called}({taken})"), _plain(told), _plain(op.source)


def _value(name: str, value: Any) -> str:
    return format_duration(value) if name == "deadline_ns" and value else str(value)


def _print_cursor(told: Explanation, console: Screen) -> None:
    """List the ops whose place follows from the order of recording alone."""
    by_cursor = [
        f"{op.slot or op.domain}.{op.name} on {target.peer_class} ({op.source})"
        for target in told.targets
        for region in target.regions
        for op in region.ops
        if op.placed == "cursor"
    ]
    if by_cursor:
        console.print("\n[bold]placed by the cursor[/] (they read nothing that has a place)")
        for line in by_cursor:
            console.print(f"  {_plain(line)}")


def _print_stages(told: Explanation, console: Screen) -> None:
    from bytesandbrains.cli._screen import table

    console.print("\n[bold]stages[/]")
    if all(stage.changes is None for stage in told.stages):
        console.print("  " + _plain(", ".join(stage.name for stage in told.stages)))
        return
    rows = [
        (f"  {number}", stage.name, _plain("; ".join(stage.changes or ("no change",))))
        for number, stage in enumerate(told.stages, 1)
    ]
    console.print(table(("", "stage", "what it changed"), rows))


def _name(target: TargetInfo) -> str:
    return target.name if target.phase == "body" else f"{target.name} ({target.phase})"


def _ports(ports: Any) -> str:
    return _plain(", ".join(f"{port.name}: {port.type}" for port in ports)) or "-"


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
