"""Pictures of a plan: what moves when on which lane, and which ranks need which bucket.

Drawn with matplotlib, which is imported when a picture is drawn. The times are those of a report:
of a plan that was carried out, or of one in virtual time.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final, Literal

from bb_ir.plan import CachePlan, SwapPlan, TransferOp
from bb_plans.groups import Distribution
from bb_roles.executor import OpReport, OpState, Report

__all__ = ["draw_plan", "draw_ranks"]

# Of the palette by Okabe and Ito, which people with any colour vision can tell apart.
_COLORS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_INK, _FAINT, _NOT_DONE = "#333333", "#dddddd", "#999999"
#: Lanes with a line of their own; the others share one.
_SHOWN: Final = 12
_OTHERS: Final = "other lanes"
#: Ranks whose bytes are told at the side; of more only the shades are drawn.
_RANKS_APART: Final = 32
_UNITS: Final = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "bytes"))
_TIMES: Final = ((10**9, "s"), (10**6, "ms"), (10**3, "us"), (1, "ns"))


def draw_plan(
    plan: CachePlan | SwapPlan, report: Report, kind: Literal["png", "svg"] = "png"
) -> bytes:
    """Return a picture: above when each op moved, by lane; below the bytes that had arrived.

    Args:
        plan: The plan.
        report: What became of its ops, and when.
        kind: `png` or `svg`.
    """
    lanes = _lanes(plan, report)
    figure = _figure(3.4 + 0.26 * max(2, len(lanes)))
    above, below = figure.subplots(
        2, 1, sharex=True, height_ratios=[max(2, len(lanes)) * 0.26, 2.2]
    )
    times = [one.ended_ns - report.started_ns for one in report.ops if one.ended_ns]
    scale, unit = _scale(max(times, default=1), _TIMES)
    _draw_lanes(above, lanes, report.started_ns, scale)
    _draw_bytes(below, lanes, report.started_ns, scale)
    below.set_xlabel(f"{unit} since the plan began", color=_INK)
    below.set_xlim(0, max(1e-9, max(times, default=0) / scale * 1.02))
    figure.suptitle(_title(plan, report), x=0.01, ha="left", fontsize=11, color=_INK)
    return _written(figure, kind)


def draw_ranks(told: Distribution, name: str, kind: Literal["png", "svg"] = "png") -> bytes:
    """Return a picture of who needs what: ranks downwards, buckets to the right, bytes as shades.

    Args:
        told: Who needs which bucket.
        name: What the plan is called.
        kind: `png` or `svg`.
    """
    import numpy as np

    size, unit = _scale(max((one.nbytes for one in told.buckets), default=0), _UNITS)
    world = len(told.rank_bytes)
    shades = np.full((world, max(1, len(told.buckets))), np.nan)
    for at, bucket in enumerate(told.buckets):
        shades[slice(None) if bucket.ranks is None else list(bucket.ranks), at] = (
            bucket.nbytes / size
        )
    figure = _figure(1.6 + 0.26 * min(max(4, world), _RANKS_APART))
    axes = figure.subplots()
    image = axes.imshow(
        shades, aspect="auto", interpolation="nearest", cmap="viridis_r", vmin=0,
        extent=(-0.5, shades.shape[1] - 0.5, world - 0.5, -0.5),
    )  # fmt: skip
    figure.colorbar(image, ax=axes, label=f"{unit} in the bucket")
    axes.set_xlabel("bucket", color=_INK)
    axes.set_ylabel("rank", color=_INK)
    axes.locator_params(integer=True)
    if world <= _RANKS_APART:
        share = [_told(nbytes) for nbytes in told.rank_bytes]
        axes.set_yticks(range(world), [f"{rank}: {text}" for rank, text in enumerate(share)])
    axes.tick_params(colors=_INK, labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    sent = _told(sum(told.rank_bytes))
    figure.suptitle(
        f"swap plan {name}: {sent} for {world} ranks", x=0.01, ha="left", fontsize=11, color=_INK
    )
    return _written(figure, kind)


def _told(nbytes: int) -> str:
    size, unit = _scale(nbytes, _UNITS)
    return f"{nbytes / size:.4g} {unit}"


def _figure(height: float) -> Any:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib.figure import Figure

    return Figure(figsize=(9, height), dpi=120, layout="constrained")


Moved = tuple[TransferOp, OpReport]


def _lanes(plan: CachePlan | SwapPlan, report: Report) -> Mapping[str, Sequence[Moved]]:
    """Return the ops that began, by lane; those with most bytes first, the rest together."""
    found: dict[str, list[Moved]] = {}
    for op, told in zip(plan.ops, report.ops, strict=True):
        if told.attempts:
            found.setdefault(op.lane or op.dst.partition("://")[0] + "://", []).append((op, told))
    order = sorted(found, key=lambda lane: (-sum(op.length for op, _ in found[lane]), lane))
    if len(order) <= _SHOWN:
        return {lane: found[lane] for lane in order}
    kept = {lane: found[lane] for lane in order[: _SHOWN - 1]}
    rest = [one for lane in order[_SHOWN - 1 :] for one in found[lane]]
    return {**kept, f"{len(order) - _SHOWN + 1} {_OTHERS}": rest}


def _draw_lanes(axes: Any, lanes: Mapping[str, Sequence[Moved]], start: int, scale: int) -> None:
    for at, moved in enumerate(lanes.values()):
        color = _COLORS[at % len(_COLORS)]
        bars = [((t.started_ns - start) / scale, (t.ended_ns - t.started_ns) / scale)
                for _, t in moved if t.state is OpState.DONE]  # fmt: skip
        axes.broken_barh(bars, (at - 0.36, 0.72), facecolors=color, edgecolors="white", lw=0.4)
        missed = [(t.ended_ns - start) / scale for _, t in moved if t.state is not OpState.DONE]
        axes.plot(missed, [at] * len(missed), "x", color=_NOT_DONE, ms=6)
        if missed:
            axes.annotate(f"{len(missed)} not done", (1, at), xycoords=("axes fraction", "data"),
                          ha="right", va="center", fontsize=7, color=_INK)  # fmt: skip
    names = [lane.replace("tier://", "").replace(">", " to ") for lane in lanes]
    axes.set_yticks(range(len(lanes)), names, fontsize=8)
    axes.set_ylim(len(lanes) - 0.4, -0.6)
    axes.set_ylabel("lane", color=_INK)
    _dress(axes)


def _draw_bytes(axes: Any, lanes: Mapping[str, Sequence[Moved]], start: int, scale: int) -> None:
    """Stack what had arrived on each lane over time."""
    ends = sorted({t.ended_ns for moved in lanes.values() for _, t in moved if t.nbytes})
    total = sum(t.nbytes for moved in lanes.values() for _, t in moved)
    size, unit = _scale(total, _UNITS)
    x = [0.0, *((end - start) / scale for end in ends)]
    stacks: list[list[float]] = []
    for moved in lanes.values():
        arrived: dict[int, int] = {}
        for _, told in moved:
            arrived[told.ended_ns] = arrived.get(told.ended_ns, 0) + told.nbytes
        so_far, line = 0, [0.0]
        for end in ends:
            so_far += arrived.get(end, 0)
            line.append(so_far / size)
        stacks.append(line)
    if stacks:
        colors = [_COLORS[at % len(_COLORS)] for at in range(len(stacks))]
        axes.stackplot(x, stacks, colors=colors, step="post", lw=0)
    axes.set_ylim(0, max(total / size * 1.05, 1e-9))
    axes.set_ylabel(f"{unit} arrived", color=_INK)
    _dress(axes)


def _dress(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color=_FAINT, lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK)


def _title(plan: CachePlan | SwapPlan, report: Report) -> str:
    size, unit = _scale(report.nbytes, _UNITS)
    took, time_unit = _scale(max(1, report.ended_ns - report.started_ns), _TIMES)
    done = len(report.done)
    kind = "cache plan" if isinstance(plan, CachePlan) else "swap plan"
    ops = f"{done} ops" if done == len(plan.ops) else f"{done} of {len(plan.ops)} ops"
    elapsed = (report.ended_ns - report.started_ns) / took
    return f"{kind} {plan.plan_id}: {ops}, {report.nbytes / size:.4g} {unit} in {elapsed:.3g} " + (
        time_unit
    )


def _scale(value: float, units: Sequence[tuple[int, str]]) -> tuple[int, str]:
    return next((one for one in units if value >= one[0]), units[-1])


def _written(figure: Any, kind: str) -> bytes:
    mpl: Any = import_module("matplotlib")  # whose stubs leave types open
    image = io.BytesIO()
    # Without these matplotlib writes its version, the date and random ids into the file.
    facts = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    with mpl.rc_context({"svg.hashsalt": "bb"}), warnings.catch_warnings():
        # Names may be in any script; what no font has is drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        figure.savefig(image, format=kind, metadata=facts)
    return image.getvalue()
