"""`bb demo plans`: a swap of weights and a window of a KV cache, planned, carried out, proven."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bytesandbrains._files import CannotWrite
from bytesandbrains.cli import _session
from bytesandbrains.cli._json import print_json
from bytesandbrains.cli._sizes import rate, size, span

if TYPE_CHECKING:
    from bytesandbrains.demo.plans import CacheFigures, SwapFigures

__all__ = ["plans"]


@_session.command
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("out"),
    show_default=True,
    help="Folder for the plans and what they move.",
)
@click.option(
    "--megabytes",
    type=click.IntRange(1, 65_536),
    default=64,
    show_default=True,
    help="Size of the model, in MiB; five times as much is written.",
)
@click.option(
    "--requests",
    type=click.IntRange(100, 1_000_000),
    default=1500,
    show_default=True,
    help="Requests in the trace.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Decides weights and trace.",
)
@click.option("--quiet", is_flag=True, help="Print the results only.")
def plans(
    *, out: Path, megabytes: int, requests: int, seed: int, quiet: bool, as_json: bool
) -> None:
    """Swap weights and fill a cache by plans, and prove it.

    Plans a swap of a model's weights and a window of a KV cache, and carries both out. Writes
    swap_plan.json and cache_plan.json, a picture of each, and plans.json with the figures. The swap
    turns one checkpoint into the next in a crash-safe store; the cache plan moves the pages that a
    trace of requests asks for. What arrived is compared by digest, and timed beside a plain copy of
    the same bytes on this machine.
    """
    from bytesandbrains.demo.environment import need_plans
    from bytesandbrains.demo.plans import PlansDemo

    need_plans()
    hidden = quiet or as_json
    demo = PlansDemo(
        out, megabytes=megabytes, requests=requests, seed=seed,
        told=lambda text: None if hidden else click.echo(f"... {text}", err=True),
    )  # fmt: skip
    try:
        swap = demo.swap()
        cache = demo.cache()
    except KeyboardInterrupt:
        _stopped(out, demo.clean_up(), hidden=hidden)
        raise
    except OSError as error:
        raise CannotWrite(
            f"{str(out)!r} cannot be written: {error.strerror or error}",
            fix="make room, choose another folder with --out, or a smaller model with --megabytes",
        ) from error
    figures = demo.write(swap, cache)
    if as_json:
        print_json({**figures, "out": str(out)})
        return
    _tell(swap, cache)
    pictures = "".join(f", {name}" for name in demo.plots)
    click.echo(f"wrote {out}/: swap_plan.json, cache_plan.json, plans.json{pictures}")


def _stopped(out: Path, left: tuple[str, ...], *, hidden: bool) -> None:
    """Say what an interrupted demo leaves."""
    if not hidden:
        files = ", ".join(left) or "no results"
        click.echo(f"\nstopped: removed what it worked with; {out}/ has {files}", err=True)


def _tell(swap: SwapFigures, cache: CacheFigures) -> None:
    from bytesandbrains.cli._screen import Screen, table

    screen = Screen()
    screen.print(table(["swap", ""], _swap_rows(swap)))
    screen.print()
    screen.print(table(["cache", ""], _cache_rows(cache)))
    screen.print()


def _swap_rows(swap: SwapFigures) -> list[tuple[str, str]]:
    codecs = ", ".join(f"{count} {name}" for name, count in swap.codecs.items())
    less = swap.new_bytes / max(1, swap.sent_bytes)
    applied, copied = rate(swap.new_bytes, swap.apply_s), rate(swap.model_bytes, swap.copy_s)
    return [
        ("new", f"{size(swap.new_bytes)} of {size(swap.model_bytes)}"),
        ("sent", f"{size(swap.sent_bytes)}, {less:.1f} times less, in {swap.ops} ops: {codecs}"),
        ("planned", f"in {span(swap.plan_s)}"),
        ("applied", f"in {span(swap.apply_s)} ({applied}), durable, every digest right"),
        ("plain copy", f"of the new version, durable: {span(swap.copy_s)} ({copied})"),
        ("flip", f"back and forward, {span(swap.flip_s)} each, durable"),
        ("proof", "files written from the store are those of the new version, by digest"),
    ]


def _cache_rows(cache: CacheFigures) -> list[tuple[str, str]]:
    why = ", ".join(f"{count:,} {reason}" for reason, count in cache.rejected.items())
    moved, copied = rate(cache.nbytes, cache.apply_s), rate(cache.nbytes, cache.copy_s)
    return [
        ("asked", f"{cache.asked:,} times for pages, by a trace of {cache.requests:,} requests"),
        ("met", f"{cache.met:,} by {cache.ops:,} ops: {cache.pages:,} pages, {size(cache.nbytes)}"),
        ("not met", why or "none"),
        ("planned", f"in {span(cache.plan_s)}, the trace read and reduced"),
        ("moved", f"in {span(cache.apply_s)} ({moved})"),
        ("plain copy", f"of the same bytes, page by page: {span(cache.copy_s)} ({copied})"),
        ("proof", "every op brought the bytes that it read, by digest"),
    ]
