"""`bb plan apply` and `bb plan rollback`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import click

from bytesandbrains.cli import _session
from bytesandbrains.cli._json import print_json
from bytesandbrains.cli._sizes import rate, size

if TYPE_CHECKING:
    from bb_roles import Progress, Report
    from bytesandbrains.plans._carrying import Carried

__all__ = ["apply", "rollback"]

_PATH = click.Path(path_type=Path)


@_session.command
@click.argument("plan", type=_PATH)
@click.option(
    "--files", type=_PATH, help="Folder of file:// places; not for a bundle, which has all."
)
@click.option("--store", type=_PATH, help="Store of cas:// places; made if it is not there.")
@click.option("--tiers", type=_PATH, help="Folder whose files NODE/tierN stand for tiers.")
@click.option("--no-commit", is_flag=True, help="Stage the new version; serve the old one.")
@click.option("--epoch", type=click.IntRange(0), default=0, help="Of the commit; else the next.")
@click.option("--rebuild", type=_PATH, help="Write the new version's files into a new folder.")
@click.option("--report", "kept", type=_PATH, help="Keep what became of each op in this file.")
@click.option("--resume", type=_PATH, help="Go on from a report of the same plan.")
@click.option("--plot", type=_PATH, help="Draw what moved when as .png or .svg.")
@click.option("--executor", "name", default="cpu", show_default=True, help="Executor to use.")
@click.option("--dry-run", is_flag=True, help="Check everything, change nothing.")
def apply(
    *,
    plan: Path,
    files: Path | None,
    store: Path | None,
    tiers: Path | None,
    no_commit: bool,
    epoch: int,
    rebuild: Path | None,
    kept: Path | None,
    resume: Path | None,
    plot: Path | None,
    name: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Carry a plan out: move its bytes, check each by its digest, and commit a swap.

    PLAN is a file, or a bundle from `bb plan swap --bundle`. A swap becomes current at once, when
    all of it is in the store, or not at all; the version before is kept for `bb plan rollback`.
    Interrupted, it can be started again: what arrived is not fetched twice.
    """
    from bb_ir.plan import CachePlan
    from bb_plans.places import content_of
    from bytesandbrains.plans import bundle_arenas, read_plan, rehearse, tier_files

    read, arenas = read_plan(plan), bundle_arenas(plan)
    content = content_of(read)
    if tiers is not None and isinstance(content, CachePlan):
        arenas = {**arenas, **tier_files(content, tiers)}
    if rebuild is not None and (store is None or no_commit):
        raise click.UsageError("--rebuild needs a --store, and a version that is committed")
    warnings = rehearse(read, files=files, store=store, arenas=arenas)
    if dry_run:
        told = [f"{one.at}: {one.found}" for one in warnings]
        if as_json:
            print_json({"dry_run": True, "warnings": told})
        else:
            click.echo("\n".join([*told, "the plan can be carried out here; nothing was changed"]))
        return
    started = time.perf_counter()
    done = _carry(
        read, name, files=files, store=store, arenas=arenas, commit=not no_commit, epoch=epoch,
        resume=None if resume is None else _report(resume), kept=kept, hidden=as_json,
    )  # fmt: skip
    took = time.perf_counter() - started
    if rebuild is not None and store is not None:
        _rebuild(store, rebuild)
    if plot is not None:
        _draw(read, done.report, plot)
    _tell(done, took, rebuild, as_json=as_json)


@_session.command
@click.argument("store", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--dry-run", is_flag=True, help="Say what would be served; change nothing.")
def rollback(*, store: Path, dry_run: bool, as_json: bool) -> None:
    """Serve the version again that was before the last commit.

    STORE is the folder that `bb plan apply --store` was given. Nothing is copied. One version is
    kept, so this goes back once.
    """
    from bb_ir.plan import digest_text
    from bb_plans.store import Store

    with Store(store, writable=not dry_run) as held:
        left = held.current
        version = held.kept if dry_run else held.rollback()
    told = {
        "left": None if left is None else digest_text(left.root),
        "serves": None if version is None else digest_text(version.root),
        "epoch": 0 if version is None else version.epoch,
        "dry_run": dry_run,
    }
    if as_json:
        print_json({"rollback": told})
    elif version is None:
        click.echo("there is no version to go back to")
    else:
        verb = "would serve" if dry_run else "serves"
        click.echo(f"{store} {verb} {told['serves']} (it left {told['left']})")


def _carry(plan: Any, name: str, *, kept: Path | None, hidden: bool, **how: Any) -> Carried:
    """Carry a plan out with a bar; its report is kept whether it succeeds or not."""
    from bb_plans.places import content_of
    from bb_roles.errors import PlanFailed
    from bytesandbrains.cli._progress import reading
    from bytesandbrains.plans import carry_out

    total = sum(op.length for op in content_of(plan).ops)
    try:
        with reading("moving", total, hidden=hidden) as at:

            def follow(now: Progress) -> None:
                at(now.bytes_done)

            done = carry_out(plan, name=name, progress=follow, **how)
    except PlanFailed as error:
        _keep(error.report, kept)
        raise
    _keep(done.report, kept)
    return done


def _keep(report: Report | None, file: Path | None) -> None:
    from bytesandbrains._files import write_atomically

    if file is not None and report is not None:
        write_atomically(file, report.to_json().encode())


def _report(file: Path) -> Report:
    from bb_roles import Report
    from bytesandbrains.plans import BadPlanFile

    try:
        return Report.from_json(file.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise BadPlanFile(f"{str(file)!r} cannot be read: {error}", fix="check the path") from error


def _rebuild(store: Path, folder: Path) -> None:
    from bb_plans.store import Store

    with Store(store, writable=False) as held, held.reading() as version:
        held.rebuild(version, folder)


def _draw(plan: Any, report: Report, plot: Path) -> None:
    from bb_plans.pictures import draw_plan
    from bb_plans.places import content_of
    from bytesandbrains._files import write_atomically

    if plot.suffix not in (".png", ".svg"):
        raise click.BadParameter(
            f"{plot.name!r} ends in neither .png nor .svg", param_hint="--plot"
        )
    kind = cast("Literal['png', 'svg']", plot.suffix[1:])
    write_atomically(plot, draw_plan(content_of(plan), report, kind))


def _tell(done: Carried, took: float, rebuild: Path | None, *, as_json: bool) -> None:
    from bb_ir.plan import digest_text

    report, moving = done.report, (done.report.ended_ns - done.report.started_ns) / 1e9
    root = None if done.root is None else digest_text(done.root)
    if as_json:
        print_json({
            "ops": len(report.ops), "nbytes": report.nbytes, "seconds": took,
            "moving_seconds": moving, "root": root, "epoch": done.epoch,
            "rebuilt": rebuild and str(rebuild),
        })  # fmt: skip
        return
    click.echo(
        f"{len(report.ops):,} ops moved {size(report.nbytes)} in {moving:.3g} s "
        f"({rate(report.nbytes, moving)}), every digest is right"
    )
    if root is not None:
        click.echo(f"committed {root} as epoch {done.epoch}, {took:.3g} s in all")
    if rebuild is not None:
        click.echo(f"wrote its files to {rebuild}/")
