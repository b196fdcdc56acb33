"""`bb plan verify` and `bb plan show`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bytesandbrains.cli import _session
from bytesandbrains.cli._errors import MOST_SHOWN, Exit, as_data, as_text, screen_width
from bytesandbrains.cli._json import print_json
from bytesandbrains.cli._paths import PATH, PICTURE
from bytesandbrains.cli._plan_files import draw
from bytesandbrains.cli._sizes import size, span

if TYPE_CHECKING:
    from bb_ir.plan import CachePlan, Problem, SwapPlan
    from bytesandbrains.plans import Compared

__all__ = ["show", "verify"]


@_session.command
@click.argument("plan", type=PATH)
@click.option(
    "--files",
    type=PATH,
    metavar="FOLDER",
    help="Folder of file:// places, or of the old version.",
)
@click.option(
    "--store", type=PATH, metavar="FOLDER", help="Store that has the old version, or cas:// places."
)
@click.option("--no-bytes", is_flag=True, help="Look at the plan alone, and read no bytes.")
@click.pass_context
def verify(
    ctx: click.Context,
    /,
    *,
    plan: Path,
    files: Path | None,
    store: Path | None,
    no_bytes: bool,
    as_json: bool,
) -> None:
    """Check a plan and the bytes that it reads, and list everything that is wrong.

    PLAN is a file, or a bundle. Every rule is looked at, and nothing is moved. Of a sound plan the
    bytes that are at hand are read, and compared with its digests: those of a bundle, with --files
    those of files, with --store those of a store. Differences need the version that they apply to.
    Exit code 3 when the plan is not sound or bytes are damaged; warnings alone are no reason.
    """
    from bb_ir.plan import validate
    from bb_plans.places import content_of, media_of
    from bytesandbrains.plans import read_plan

    if no_bytes and (files is not None or store is not None):
        raise click.UsageError("--no-bytes reads none: leave it out, or --files and --store")
    read = read_plan(plan)
    content = content_of(read)
    found = validate(read, media=media_of(content))
    errors = [one for one in found if not one.warning]
    compared = None
    if not errors and not no_bytes:
        compared = _compare(plan, content, files, store, hidden=as_json)
    damaged = () if compared is None else compared.damaged
    wrong = len(errors) + len(damaged)
    if as_json:
        told = [_told(one) for one in found]
        print_json(
            {"sound": not wrong, "problems": told, "bytes": compared and _facts_of(compared)}
        )
    else:
        _print_problems(found)
        if compared is not None:
            _print_compared(compared)
        click.echo(_verdict(wrong, len(found) - len(errors)))
    ctx.exit(Exit.INPUT if wrong else Exit.OK)


@_session.command
@click.argument("plan", type=PATH)
@click.option(
    "--ops", type=click.IntRange(0), default=20, show_default=True, help="Ops that are listed."
)
@click.option(
    "--plot", type=PICTURE, help="Draw the plan as .png or .svg: bytes per lane over time."
)
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    default=1000.0,
    show_default=True,
    help="Speed of each move in the picture, in MB/s.",
)
def show(*, plan: Path, ops: int, plot: Path | None, rate: float, as_json: bool) -> None:
    """Show what a plan moves, and when it would be done.

    PLAN is a file, or a bundle. The times are those of an undisturbed run in virtual time at the
    given speed; nothing is moved. A plan that is not sound has no times.
    """
    from bb_ir.plan import InvalidPlan
    from bb_plans.places import content_of
    from bytesandbrains.plans import read_plan, simulated

    content = content_of(read_plan(plan))
    took = None
    try:
        report = simulated(content, rate * 1e6)
    except InvalidPlan:
        if plot is not None:
            raise
    else:
        took = (report.ended_ns - report.started_ns) / 1e9
        if plot is not None:
            draw(content, report, plot)
    if as_json:
        print_json({"plan": {**_facts(content), "seconds": took, "plot": plot and str(plot)}})
        return
    _print_plan(content, took, rate, ops)
    if plot is not None:
        click.echo(f"wrote {plot}")


def _compare(
    plan: Path,
    content: CachePlan | SwapPlan,
    files: Path | None,
    store: Path | None,
    *,
    hidden: bool,
) -> Compared:
    """Compare the bytes of a plan that are at hand, with a bar."""
    from bytesandbrains.cli._progress import reading
    from bytesandbrains.plans import bundle_arenas, bundle_digests, compare_bytes

    arenas, encoded = bundle_arenas(plan), bundle_digests(plan)
    with reading("comparing", sum(op.length for op in content.ops), hidden=hidden) as at:
        return compare_bytes(
            content, files=files, store=store, arenas=arenas, encoded=encoded, progress=at
        )


def _facts_of(compared: Compared) -> dict[str, Any]:
    damaged = [{"op": one.op, "place": one.place, **as_data(one)} for one in compared.damaged]
    return {
        "ops": compared.ops, "nbytes": compared.nbytes, "left": dict(compared.left),
        "damaged": damaged,
    }  # fmt: skip


def _print_compared(compared: Compared) -> None:
    """Print what was compared, what was not, and what is damaged."""
    for one in compared.damaged[:MOST_SHOWN]:
        click.echo(as_text(one, width=screen_width()) + "\n", err=True)
    more = len(compared.damaged) - MOST_SHOWN
    if more > 0:
        click.echo(f"... and {more:,} more; --json has all of them\n", err=True)
    if compared.ops:
        right = compared.ops - len(compared.damaged)
        click.echo(f"compared {_ops(compared.ops)}, {size(compared.nbytes)}: {right:,} right")
    for why, count in sorted(compared.left.items()):
        click.echo(f"not compared: {_ops(count)} {why}")


def _ops(count: int) -> str:
    return f"{count:,} op{'s'[: count != 1]}"


def _told(one: Problem) -> dict[str, Any]:
    return {
        "rule": one.rule, "at": one.at, "found": one.found, "op": one.op, "warning": one.warning,
    }  # fmt: skip


def _print_problems(found: tuple[Problem, ...]) -> None:
    from rich.markup import escape

    from bytesandbrains.cli._screen import Screen, table

    # Errors first, as a plan of a cache may be late in hundreds of ops.
    listed = sorted(found, key=lambda one: one.warning)[:MOST_SHOWN]
    if listed:
        rows = [
            ("warning" if one.warning else "[red]error[/]", one.rule, escape(one.at),
             escape(one.found))
            for one in listed
        ]  # fmt: skip
        Screen().print(table(["", "rule", "where", "found"], rows))
    if len(found) > len(listed):
        click.echo(f"... and {len(found) - len(listed):,} more; --json has all of them")


def _verdict(errors: int, warnings: int) -> str:
    if errors:
        return f"not sound: {errors} error{'s'[: errors != 1]}; nothing of it should be carried out"
    return f"sound, with {warnings} warning{'s'[: warnings != 1]}" if warnings else "sound"


def _facts(plan: CachePlan | SwapPlan) -> dict[str, Any]:
    from bb_ir.plan import CachePlan, content_digest, digest_text

    facts: dict[str, Any] = {
        "name": plan.plan_id,
        "digest": digest_text(content_digest(plan)),
        "ops": len(plan.ops),
        "nbytes": sum(op.length for op in plan.ops),
    }
    if isinstance(plan, CachePlan):
        rejected: dict[str, int] = {}
        for one in plan.rejected:
            rejected[one.reason] = rejected.get(one.reason, 0) + 1
        return {
            "kind": "cache", **facts, "evict": len(plan.evict), "prefetch": len(plan.prefetch),
            "admission": len(plan.admission), "rejected": rejected,
        }  # fmt: skip
    return {
        "kind": "swap", **facts, "adds": len(plan.adds), "shared": len(plan.shared),
        "deletes": len(plan.deletes),
    }  # fmt: skip


def _print_plan(plan: CachePlan | SwapPlan, took: float | None, rate: float, listed: int) -> None:
    from rich.markup import escape

    from bytesandbrains.cli._screen import Screen, table

    facts, screen = _facts(plan), Screen()
    rows = [
        ("plan", f"{facts['kind']} {facts['name']}"),
        ("digest", facts["digest"]),
        ("moves", f"{facts['ops']:,} ops, {size(facts['nbytes'])}"),
        (
            "takes",
            "not sound: `bb plan verify` says why"
            if took is None
            else f"{span(took)} at {rate:g} MB/s a move",
        ),
    ]
    if facts["kind"] == "swap":
        counts = ", ".join(f"{facts[part]:,} {part}" for part in ("adds", "shared", "deletes"))
        rows.append(("chunks", counts))
    else:
        counts = ", ".join(f"{facts[part]:,} to {verb}" for part, verb in (
            ("evict", "evict"), ("prefetch", "prefetch"), ("admission", "keep")))  # fmt: skip
        rows.append(("pages", counts))
        told = ", ".join(f"{count:,} {why}" for why, count in sorted(facts["rejected"].items()))
        rows.append(("rejected", told or "none"))
    screen.print(table(["", ""], [(label, escape(text)) for label, text in rows]))
    if not listed or not plan.ops:
        return
    screen.print()
    screen.print(
        table(
            ["op", "kind", "bytes", "codec", "from", "to", "lane"],
            [
                (
                    str(at), op.kind.name, f"{op.length:,}", op.codec or "-",
                    _place(op.src, op.src_offset), _place(op.dst, op.dst_offset),
                    escape(op.lane or "-"),
                )
                for at, op in enumerate(plan.ops[:listed])
            ],
        )
    )  # fmt: skip
    if len(plan.ops) > listed:
        screen.print(f"... and {len(plan.ops) - listed:,} more; --ops lists more of them")


def _place(text: str, offset: int) -> str:
    from rich.markup import escape

    short = text if len(text) <= 40 else f"{text[:28]}...{text[-8:]}"  # a column
    return escape(short) + (f" +{offset:,}" if offset else "")
