"""`bb explain`: what is in an artifact, as text, as JSON, or as a page with a drawing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bb_ir import keys
from bb_ir.durations import format_duration
from bytesandbrains.cli import _session
from bytesandbrains.cli._json import print_json
from bytesandbrains.cli._options import (
    arg_option,
    bind_option,
    config_option,
    parse_pairs,
    stage_option,
)
from bytesandbrains.cli._program import load_program
from bytesandbrains.cli._signers import Signers, signers_in

if TYPE_CHECKING:
    from bb_compiler.explain import EdgeInfo, Explanation, OpInfo, RegionInfo, TargetInfo
    from bytesandbrains.cli._screen import Screen

__all__ = ["command", "print_summary"]

_BY_CURSOR = "[bold]placed by the cursor[/] (they read nothing that has a place)"
_AWAY = (
    "[bold]placed by inputs, away from the cursor[/] (they run where what they read is, not where "
    "the op before them runs)"
)
#: From this width on, tables fit; below, each entry takes lines of its own.
_WIDE = 120


def _parse_numbers(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, int]:
    """Read options of the form `NAME=NUMBER`."""
    numbers: dict[str, int] = {}
    for name, text in parse_pairs(ctx, param, values).items():
        if not text.isdecimal():
            raise click.BadParameter(f"{name}={text}: {text!r} is not a number")
        numbers[name] = int(text)
    return numbers


@_session.command
@click.argument("program")
@click.option(
    "--cohort",
    multiple=True,
    callback=_parse_numbers,
    metavar="CLASS=N",
    help="Count what is sent for N peers of a class; else for the `n` of `sample`, or one.",
)
@click.option(
    "--dim",
    "dims",
    multiple=True,
    callback=_parse_numbers,
    metavar="NAME=N",
    help="The length of a dimension that the program leaves open.",
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a page with a drawing, which needs nothing else.",
)
@bind_option
@config_option
@stage_option
@arg_option
def command(
    *,
    program: str,
    cohort: dict[str, int],
    dims: dict[str, int],
    html: Path | None,
    binds: dict[str, str],
    config_file: Path | None,
    stages: tuple[str, ...],
    arguments: dict[str, str],
    as_json: bool,
) -> None:
    """Show what is in an artifact, or in what a Module compiles to.

    PROGRAM is an artifact, FILE.py:NAME or package.module:NAME. For a Module it also says what
    each stage of the compiler changed.

    Of each edge it tells what one envelope weighs: the values, which are exact where the program
    says all types and shapes, and the whole, whose header holds counters of different lengths.
    One round is one run of every region that no message opens, and all that follows.

    Ops are listed per region, in order. Notes say what an op waits for besides what it reads, and
    how it got its place where that does not follow from what it reads: by the cursor (where the op
    before it stood) or by `g.at`. Ops whose inputs took them to another class than the op before
    them are listed too: look whether you meant that. --json has all types.
    """
    from bytesandbrains.cli._bindings import How, explain_program

    loaded = load_program(program, arguments)
    signers = signers_in(Path(program)) if loaded.compiled else Signers([], [])
    told = explain_program(loaded, How(binds, stages, config_file), cohort=cohort, dims=dims)
    if html is not None:
        from bytesandbrains._files import write_atomically

        write_atomically(html, told.to_html().encode())
    if as_json:
        signed = {"signers": signers.held, "broken_signatures": signers.broken}
        print_json({**told.to_dict(), **signed})
        return
    if html is not None:
        click.echo(f"wrote {html}")
        return
    from bytesandbrains.cli._screen import Screen

    console = Screen()
    print_summary(told, console)
    for target in told.targets:
        for region in target.regions:
            _print_region(target, region, console)
    _print_placed(told, console, "cursor", _BY_CURSOR)
    _print_placed(told, console, "away", _AWAY)
    _print_stages(told, console)
    for line in signers.lines():
        console.print(_plain(f"\n{line}"))


def print_summary(told: Explanation, console: Screen) -> None:
    """Print targets, slots, edges and what a round sends."""
    from rich.markup import escape

    console.print(f"[bold]{escape(told.module)}[/]  program {told.program[:16]}\n")
    _print_rows(
        ("target", "class", "inputs", "outputs", "hash"),
        [
            (_name(t), t.peer_class, _ports(t.inputs), _ports(t.outputs), t.hash[:16])
            for t in told.targets
        ],
        console,
    )
    rows = {
        (b.slot, b.role, b.component, t.peer_class, b.config)
        for t in told.targets
        for b in t.bindings
    }
    columns = ("slot", "role", "component", "on", "configuration")[
        : 5 if any(r[4] for r in rows) else 4
    ]
    console.print()
    _print_rows(columns, [row[: len(columns)] for row in sorted(rows)], console, fits=60)
    console.print()
    if not told.edges:
        console.print("no network edges")
        return
    _print_edges(told, console)
    console.print()
    given = ", ".join(f"{name}={size:,}" for name, size in {**told.cohort, **told.dims}.items())
    console.print(_plain(f"{told.a_round}{f' with {given}' if given else ''} sends {told.round}"))
    if told.start.envelopes:
        console.print(_plain(f"the bootstrap sends {told.start}"))
    if told.assumed:
        options = " ".join(f"--cohort {name}=N" for name in told.assumed)
        console.print(_plain(f"one peer assumed where the program leaves it open: {options}"))


def _print_edges(told: Explanation, console: Screen) -> None:
    columns = (
        "edge", "from", "to", "carries", "values", "payload", "envelope", "per frame",
        "per round", "answers", "deadline",
    )  # fmt: skip
    _print_rows(columns, [_edge(edge) for edge in told.edges], console)
    for edge in told.edges:
        for why in edge.bytes.unknown:
            console.print(_plain(f"  ? {edge.name}: {why}"))
        if edge.retries:
            often = f"up to {edge.retries} times, until it is acknowledged"
            console.print(_plain(f"  {edge.name}: sent again {often}"))
        if edge.replies > 1:
            console.print(_plain(f"  {edge.name}: each peer answers {edge.replies} times"))
        if edge.ordered:
            console.print(_plain(f"  {edge.name}: opened in the order in which it was sent"))


def _edge(edge: EdgeInfo) -> tuple[str, ...]:
    carried = ", ".join(port.brief for port in edge.ports) or "trigger"
    return (
        edge.name,
        edge.source_class,
        edge.target_class,
        carried,
        *edge.bytes.texts,
        f"{edge.per_frame:,}",
        f"{edge.per_round:,}",
        edge.answers or "-",
        edge.deadline,
    )


def _print_region(target: TargetInfo, region: RegionInfo, console: Screen) -> None:
    from rich.markup import escape

    from bytesandbrains.cli._screen import table

    inside = f", inside a frame of {region.parent}" if region.parent else ""
    sends = f"; a frame sends {region.sends}" if region.sends.envelopes else ""
    console.print(
        f"\n[bold]{escape(_name(target))} / {escape(region.name)}[/]  on "
        f"{escape(target.peer_class)}; started by {escape(_opened(region))}{escape(inside)}; "
        f"at most {format_duration(region.deadline_ns)}{escape(sends)}"
    )
    if console.width >= _WIDE:
        rows = [
            (str(number), *map(_plain, (op.text, "; ".join(op.notes), op.source)))
            for number, op in enumerate(region.listed, 1)
        ]
        console.print(table(("#", "op", "notes", "source"), rows))
        return
    for number, op in enumerate(region.listed, 1):
        console.print(table(("", ""), [(f"{number:>3}", line) for line in _op_lines(op)][:1]))
        for line in list(_op_lines(op))[1:]:
            console.print(table(("", ""), [("   ", f"[dim]{line}[/]")]))


def _op_lines(op: OpInfo) -> Iterator[str]:
    """Give an op, and below it what there is to say about it."""
    yield _plain(op.text)
    if told := "; ".join((*op.notes, op.source)).strip("; "):
        yield _plain(told)


def _opened(region: RegionInfo) -> str:
    if any(op.name == "Receive" for op in region.ops):
        return f"edge {region.name}"
    return region.block or "an invocation"


def _print_placed(told: Explanation, console: Screen, how: str, title: str) -> None:
    """List the ops whose place was found in a way that a reader of the program may not expect."""
    listed = [
        f"{op.label} on {target.peer_class} ({op.source})"
        for target in told.targets
        for region in target.regions
        for op in region.ops
        if op.placed == how and op.name not in (keys.TURN, "Scalar", "Constant")
    ]
    if listed:
        console.print(f"\n{title}")
        for line in listed:
            console.print(f"  {_plain(line)}")


def _print_stages(told: Explanation, console: Screen) -> None:
    console.print("\n[bold]stages[/]")
    if all(stage.changes is None for stage in told.stages):
        console.print("  " + _plain(", ".join(stage.label for stage in told.stages)))
        return
    rows = [
        (f"  {number}", stage.label, "; ".join(stage.changes or ("no change",)))
        for number, stage in enumerate(told.stages, 1)
    ]
    _print_rows(("", "stage", "what it changed"), rows, console, fits=60)


def _print_rows(
    columns: tuple[str, ...], rows: list[Any], console: Screen, *, fits: int = _WIDE
) -> None:
    """Print a table where it fits; else each row as a name with its facts below it."""
    from bytesandbrains.cli._screen import table

    if console.width >= fits:
        console.print(table(columns, [[*map(_plain, row)] for row in rows]))
        return
    for name, *facts in rows:
        console.print(f"[bold]{_plain(columns[0])}[/] {_plain(name)}".lstrip())
        told = zip(columns[1:], facts, strict=True)
        lines = [(f"  {column}", _plain(fact)) for column, fact in told if fact not in ("", "-")]
        console.print(table(("", ""), lines))


def _name(target: TargetInfo) -> str:
    return target.name if target.phase == "body" else f"{target.name} ({target.phase})"


def _ports(ports: Any) -> str:
    return ", ".join(f"{port.name}: {port.brief}" for port in ports) or "-"


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
