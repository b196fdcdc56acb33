"""`bb plan cache`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bytesandbrains.cli import _session
from bytesandbrains.cli._json import print_json
from bytesandbrains.cli._options import parse_pairs
from bytesandbrains.cli._paths import NEW_FILE, PATH
from bytesandbrains.cli._sizes import size

if TYPE_CHECKING:
    from bb_ir.plan import Plan

__all__ = ["cache"]


@_session.command
@click.argument("trace", type=PATH)
@click.option("--out", type=NEW_FILE, help="File for the plan.")
@click.option(
    "--tables",
    type=PATH,
    metavar="FOLDER",
    help="Keep the tables and how they were made in this folder.",
)
@click.option(
    "--trace-set",
    "parameters",
    multiple=True,
    callback=parse_pairs,
    metavar="NAME=VALUE",
    help="How the trace is reduced: window_ms, layers, page_bytes, slo_ms, fetch, now_ns, ...",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    callback=parse_pairs,
    metavar="NAME=VALUE",
    help="How it is planned: min_io_bytes, max_ops_per_tier, compat, ...; `bb plugins show "
    "planner.kvcache` lists all.",
)
@click.option(
    "--source",
    metavar="NAME",
    default="trace",
    show_default=True,
    help="Data source that reads it.",
)
@click.option(
    "--planner", "name", metavar="NAME", default="kvcache", show_default=True,
    help="Planner to ask.",
)  # fmt: skip
@click.option("--earlier", is_flag=True, help="Write the JSON of the earlier format (bw.stack).")
@click.option("--dry-run", is_flag=True, help="Write nothing; say what would move.")
def cache(
    *,
    trace: Path,
    out: Path | None,
    tables: Path | None,
    parameters: dict[str, str],
    settings: dict[str, str],
    source: str,
    name: str,
    earlier: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Plan which pages of a KV cache move, for a trace.

    TRACE is a parquet or Arrow trace, Mooncake's JSONL (with --trace-set model=sha256:...), or a
    folder that --tables wrote. The plan is for one window of time. Every request is met, held
    already, or rejected with a reason.
    """
    from bytesandbrains.cli._program import literal
    from bytesandbrains.cli._progress import working
    from bytesandbrains.plans import cache_plan, write_plan

    if out is None and not dry_run:
        raise click.UsageError("say where to write: --out FILE, or --dry-run")
    with working(f"reading {trace}", hidden=as_json) as at:
        made = cache_plan(
            trace,
            parameters={key: literal(text) for key, text in parameters.items()},
            settings={key: literal(text) for key, text in settings.items()},
            keep=None if dry_run else tables,
            source=source,
            name=name,
            progress=at,
        )
        if out is not None and not dry_run:
            at(f"writing {out}")
            write_plan(out, made, earlier=earlier)
    written = None if dry_run else str(out)
    facts = _facts(made)
    if as_json:
        print_json({"cache": {**facts, "written": written}})
        return
    _print(facts, written)


def _facts(made: Plan) -> dict[str, Any]:
    plan = made.cache
    assert plan is not None, "plans of caches hold one"
    rejected: dict[str, int] = {}
    for one in plan.rejected:
        rejected[one.reason] = rejected.get(one.reason, 0) + 1
    return {
        "plan_id": made.plan_id,
        "ops": len(plan.ops),
        "nbytes": sum(op.length for op in plan.ops),
        "pages": sum(max(1, ref.page_count) for op in plan.ops for ref in op.kv_refs),
        "fanout": sum(op.fanout for op in plan.ops),
        "evict": len(plan.evict),
        "prefetch": len(plan.prefetch),
        "admission": len(plan.admission),
        "rejected": dict(sorted(rejected.items())),
        "window_ms": plan.window_ms,
    }


def _print(facts: dict[str, Any], written: str | None) -> None:
    from bytesandbrains.cli._screen import Screen, table

    rejected = ", ".join(f"{count:,} {why}" for why, count in facts["rejected"].items())
    rows = [
        ("moves", f"{facts['ops']:,} ops, {facts['pages']:,} pages, {size(facts['nbytes'])}"),
        ("serve", f"{facts['fanout']:,} requests for pages in a window of {facts['window_ms']} ms"),
        ("evicts", f"{facts['evict']:,} runs of pages"),
        ("later", f"{facts['prefetch']:,} runs to fetch when there is time"),
        ("keeps", f"{facts['admission']:,} runs that are used often"),
        ("rejected", rejected or "none"),
        ("plan", facts["plan_id"]),
        ("written to", written or "nothing: a dry run"),
    ]
    Screen().print(table(["", ""], rows))
