"""`bb plan apply` and `bb plan rollback`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bytesandbrains.cli import _session
from bytesandbrains.cli._errors import MOST_SHOWN
from bytesandbrains.cli._json import print_json
from bytesandbrains.cli._paths import FOLDER, NEW_FILE, PATH, PICTURE
from bytesandbrains.cli._plan_files import draw, need_free_folder
from bytesandbrains.cli._sizes import rate, size, span

if TYPE_CHECKING:
    from bb_ir.plan import CachePlan, SwapPlan
    from bb_roles import Progress, Report
    from bytesandbrains.plans._carrying import Carried

__all__ = ["apply", "rollback"]

#: Lists of a plan of a cache that name pages and no places, and what is to be done with those.
_LISTS = {"evict": "evict", "prefetch": "fetch later", "admission": "keep in storage"}


@_session.command
@click.argument("plan", type=PATH)
@click.option(
    "--files",
    type=PATH,
    metavar="FOLDER",
    help="Folder of file:// places; not for a bundle, which has all.",
)
@click.option(
    "--store", type=PATH, metavar="FOLDER", help="Store of cas:// places; made if it is not there."
)
@click.option(
    "--tiers", type=PATH, metavar="FOLDER", help="Folder whose files NODE/tierN stand for tiers."
)
@click.option("--no-commit", is_flag=True, help="Stage the new version; serve the old one.")
@click.option(
    "--epoch",
    type=click.IntRange(0),
    default=0,
    help="Epoch of the commit, later than all before; the next one if left out.",
)
@click.option(
    "--rebuild",
    type=PATH,
    metavar="FOLDER",
    help="Write the new version's files into a new folder.",
)
@click.option("--report", "kept", type=NEW_FILE, help="Keep what became of each op in this file.")
@click.option("--resume", type=PATH, metavar="FILE", help="Go on from a report of the same plan.")
@click.option("--plot", type=PICTURE, help="Draw what moved when as .png or .svg.")
@click.option(
    "--executor", "name", metavar="NAME", default="cpu", show_default=True, help="Executor to use."
)
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
    """Carry a plan out, and commit a swap.

    PLAN is a file, or a bundle from `bb plan swap --bundle`. What arrives is checked by its digest.
    Of a plan of a cache the ops are carried out; pages that it evicts, fetches later or keeps are
    told, as a serving engine alone knows where they lie.
    A swap becomes current at once, when all of it is in the store, or not at all; the version
    before is kept for `bb plan rollback`. Interrupted, it can be started again: what arrived is not
    fetched twice.
    """
    from bb_ir.plan import CachePlan
    from bb_plans.places import content_of
    from bytesandbrains.plans import bundle_arenas, read_plan, rehearse, tier_files

    read, arenas = read_plan(plan), bundle_arenas(plan)
    content = content_of(read)
    if tiers is not None and isinstance(content, CachePlan):
        arenas = {**arenas, **tier_files(content, tiers, make=False)}
    if rebuild is not None and (store is None or no_commit):
        raise click.UsageError(
            "--rebuild writes what the store serves: add --store FOLDER, without --no-commit"
        )
    if rebuild is not None:
        need_free_folder(rebuild, "--rebuild")
    warnings = rehearse(read, files=files, store=store, arenas=arenas)
    if dry_run:
        told = [f"{one.at}: {one.found}" for one in warnings]
        if as_json:
            print_json({"dry_run": True, "warnings": told})
            return
        more = len(told) - MOST_SHOWN
        rest = [f"... and {more:,} more warnings; --json has all of them"] if more > 0 else []
        end = "the plan can be carried out here; nothing was changed"
        click.echo("\n".join([*told[:MOST_SHOWN], *rest, end]))
        return
    if tiers is not None and isinstance(content, CachePlan):
        tier_files(content, tiers)
    started = time.perf_counter()
    done = _carry(
        read, name, files=files, store=store, arenas=arenas, commit=not no_commit, epoch=epoch,
        resume=None if resume is None else _report(resume), kept=kept, hidden=as_json,
    )  # fmt: skip
    took = time.perf_counter() - started
    if not as_json:  # before what may still fail
        _tell(content, done, took)
    if plot is not None:
        draw(content, done.report, plot)
    if rebuild is not None and store is not None:
        _rebuild(store, rebuild, hidden=as_json)
    if as_json:
        facts = {**_facts(done, took), "rebuilt": rebuild and str(rebuild)}
        left = _left(content)
        print_json({**facts, "left_to_the_engine": left} if left else facts)
    elif rebuild is not None:
        click.echo(f"wrote its files to {rebuild}/")


@_session.command
@click.argument("store", type=FOLDER)
@click.option("--dry-run", is_flag=True, help="Say what would be served; change nothing.")
def rollback(*, store: Path, dry_run: bool, as_json: bool) -> None:
    """Serve the version again that was before the last commit.

    STORE is the folder that `bb plan apply --store` was given. Nothing is copied. One version is
    kept, so this goes back once.
    """
    from bb_ir.plan import digest_text
    from bb_plans.store import Store

    with Store(store, writable=False):
        pass  # a folder that is no store is not made one
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
    goes_on = "what arrived in the store is kept" if how["store"] else "see --report and --resume"
    try:
        with reading("moving", total, hidden=hidden) as at:

            def follow(now: Progress) -> None:
                at(now.bytes_done)

            done = carry_out(plan, name=name, progress=follow, **how)
    except PlanFailed as error:
        _keep(error.report, kept)
        fix = f"mend the cause, and start it again: {goes_on}"
        raise PlanFailed(
            error.found, expected=error.expected, fix=fix, report=error.report
        ) from error
    except KeyboardInterrupt:
        if how["store"] and not hidden:
            click.echo(f"\nstopped; start it again to go on: {goes_on}", err=True)
        raise
    _keep(done.report, kept)
    return done


def _keep(report: Report | None, file: Path | None) -> None:
    from bytesandbrains._files import write_atomically

    if file is not None and report is not None:
        write_atomically(file, report.to_json().encode())


def _report(file: Path) -> Report:
    from bb_ir.plan import PlanFormatError
    from bb_roles import Report
    from bytesandbrains.plans import BadPlanFile

    try:
        return Report.from_json(file.read_text())
    except PlanFormatError as error:
        raise BadPlanFile(
            f"{str(file)!r} cannot be used: {error.found}",
            expected="what `bb plan apply --report` wrote",
            fix="check the path, or leave --resume out: what is in the store is not moved twice",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise BadPlanFile(f"{str(file)!r} cannot be read: {why}", fix="check the path") from error


def _facts(done: Carried, took: float) -> dict[str, Any]:
    from bb_ir.plan import digest_text

    report = done.report
    return {
        "ops": len(report.ops), "nbytes": report.nbytes, "there_bytes": done.there,
        "seconds": took, "moving_seconds": (report.ended_ns - report.started_ns) / 1e9,
        "root": None if done.root is None else digest_text(done.root), "epoch": done.epoch,
    }  # fmt: skip


def _tell(plan: SwapPlan | CachePlan, done: Carried, took: float) -> None:
    facts = _facts(done, took)
    moved, moving = max(0, facts["nbytes"] - done.there), facts["moving_seconds"]
    speed = f" in {span(moving)} ({rate(moved, moving)})" if moved else ""
    there = f"; {size(done.there)} were there already" if done.there else ""
    checked = sum(op.digest is not None for op in plan.ops)  # plans of caches know none
    right = ", every digest is right" if checked == len(plan.ops) else f", {checked:,} by digest"
    click.echo(f"{facts['ops']:,} ops moved {size(moved)}{speed}{right if checked else ''}{there}")
    told = ", ".join(
        f"{one['pages']:,} pages ({size(one['nbytes'])}) to {_LISTS[name]}"
        for name, one in _left(plan).items()
        if one["runs"]
    )
    if told:
        click.echo(f"not done here, left to the engine that has the cache: {told}")
    if facts["root"] is not None and not facts["epoch"]:
        click.echo(f"staged {facts['root']}; the store serves what it served")
    elif facts["root"] is not None:
        click.echo(f"serves {facts['root']}, epoch {facts['epoch']}; {span(took)} in all")


def _left(plan: SwapPlan | CachePlan) -> dict[str, dict[str, int]]:
    """Return what a plan of a cache asks for without saying where the pages lie."""
    from bb_ir.plan import CachePlan

    if not isinstance(plan, CachePlan):
        return {}
    lists = {name: getattr(plan, name) for name in _LISTS}
    return {
        name: {
            "runs": len(refs),
            "pages": sum(max(1, ref.page_count) for ref in refs),
            "nbytes": sum(max(1, ref.page_count) * ref.page_bytes for ref in refs),
        }
        for name, refs in lists.items()
    }


def _rebuild(store: Path, folder: Path, *, hidden: bool) -> None:
    from bb_plans.store import Store
    from bytesandbrains.cli._progress import reading

    with Store(store, writable=False) as held, held.reading() as version:
        total = sum(chunk.length for chunk in version.manifest.files)
        with reading(f"writing {folder}/", total, hidden=hidden) as at:
            held.rebuild(version, folder, progress=at)
