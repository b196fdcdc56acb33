"""Pictures of a result: PNG, drawn with matplotlib, which is imported when one is drawn."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import Any

from bb_sim.results import Result, Round, Series, Span, series_of

__all__ = ["draw_rounds", "draw_timeline"]

# Of the palette by Okabe and Ito, which people with any colour vision can tell apart.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_INK, _FAINT, _GREY = "#333333", "#dddddd", "#999999"
_DONE, _REJECTED, _MISSING = "#009E73", "#E69F00", "#D55E00"
#: Slots whose components the title names, as far as a program has them.
_TOLD = ("aggregator", "codec", "model", "data")
#: Letters of a line of the title that fit above the panels.
_LONGEST = 110
#: Rounds that the timeline shows, so that pieces of work can be told apart.
_SHOWN = 12


def draw_rounds(result: Result) -> bytes:
    """Return a PNG of what happened by round: loss, accuracy, bytes, and who answered."""
    figure = _figure(10, 6.4)
    panels: Any = figure.subplots(2, 2, sharex=True)
    rounds = [one for one in result.rounds if one.ended]
    _draw_series(panels[0][0], series_of(rounds, "loss"), "loss")
    _draw_series(panels[0][1], series_of(rounds, "accuracy"), "accuracy")
    _draw_bytes(panels[1][0], rounds)
    _draw_answers(panels[1][1], rounds)
    for axes in panels.flat:
        _dress(axes, rounds)
    for axes in panels[1]:
        axes.set_xlabel("round", color=_INK)
    figure.suptitle(_title(result), x=0.01, ha="left", fontsize=11, color=_INK)
    return _png(figure)


def draw_timeline(result: Result) -> bytes:
    """Return a PNG of what some peers did when: their work, and the ends of rounds."""
    rounds = [one for one in result.rounds if one.ended][:_SHOWN]
    last = rounds[-1].number if rounds else 0
    spans = [span for span in result.spans if 0 < span.round <= last]
    names = list(dict.fromkeys(span.peer for span in spans))
    end = max((one.ended_ns for one in rounds), default=1) / 1e9
    names.sort(key=lambda name: (name.partition("[")[0], len(name), name))
    figure = _figure(10, max(2.6, 1.4 + 0.16 * len(names)))
    axes: Any = figure.add_subplot()
    _draw_gaps(axes, [span for span in result.spans if span.kind != "work"], names)
    for span in spans:
        start, width = span.start_ns / 1e9, (span.end_ns - span.start_ns) / 1e9
        at = names.index(span.peer)
        color = _COLORS[span.round % len(_COLORS)]
        axes.barh(at, width, left=start, height=0.72, color=color, lw=0)
        if not width:
            axes.plot([start], [at], marker="|", ms=6, color=color)
    for one in rounds:
        axes.axvline(one.ended_ns / 1e9, color=_GREY, lw=0.8, ls=":", zorder=0)
        middle = (one.started_ns + one.ended_ns) / 2e9
        axes.annotate(
            str(one.number), (middle, 1), xycoords=("data", "axes fraction"), xytext=(0, 3),
            textcoords="offset points", ha="center", fontsize=7, color=_INK,
        )  # fmt: skip
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, end)
    axes.set_xlabel("virtual seconds; dotted lines end the rounds above", color=_INK)
    working = sum(result.peers.values()) - 1  # the one that is invoked only asks
    who = "peers" if len(names) >= working else f"{len(names)} of {working:,} peers"
    axes.set_title(f"When {who} worked, by round\n{_title(result)}", loc="left", fontsize=10,
                   color=_INK, pad=16)  # fmt: skip
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(colors=_INK)
    return _png(figure)


def _draw_gaps(axes: Any, gaps: Sequence[Span], names: Sequence[str]) -> None:
    """Shade when peers were not there, or not heard."""
    looks: dict[str, Any] = {"down": {"color": _GREY, "alpha": 0.55}, "cut off": {"color": _FAINT}}
    told: set[str] = set()
    for gap in gaps:
        if gap.peer not in names:
            continue
        label = {} if gap.kind in told else {"label": gap.kind}
        told.add(gap.kind)
        start, width = gap.start_ns / 1e9, (gap.end_ns - gap.start_ns) / 1e9
        axes.barh(names.index(gap.peer), width, left=start, height=0.9, lw=0, zorder=0,
                  **looks[gap.kind], **label)  # fmt: skip
    if told:
        axes.legend(frameon=False, fontsize=8, ncols=2, loc="lower right",
                    bbox_to_anchor=(1.0, 1.02))  # fmt: skip


def _figure(width: float, height: float) -> Any:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def _png(figure: Any) -> bytes:
    image = io.BytesIO()
    # Without this matplotlib writes its version into the file.
    figure.savefig(image, format="png", metadata={"Software": None})
    return image.getvalue()


def _title(result: Result) -> str:
    """Return two lines: what ran and who attacked, then how much of it."""
    known = {slot: name.rpartition(":")[2] for slot, name in result.components.items()}
    parts = [f"{slot} {known[slot]}" for slot in _TOLD if slot in known]
    what = ", ".join([f"{result.program} with {parts[0]}", *parts[1:]] if parts else [])
    many = len(result.attackers)
    who = f"{many} attacker{'s'[: many != 1]} by {result.attack}" if many else ""
    peers = ", ".join(f"{count:,} {cls}" for cls, count in result.peers.items())
    rounds = sum(bool(one.ended) for one in result.rounds)
    how_long = f"{rounds} round{'s'[: rounds != 1]}"
    head = "; ".join(text for text in (what or result.program, who) if text)
    lines = [*textwrap.wrap(head, _LONGEST), f"{peers}; {how_long}, seed {result.seed}"]
    return "\n".join(lines)


def _draw_series(axes: Any, found: Sequence[Series], what: str) -> None:
    from matplotlib.ticker import PercentFormatter

    axes.set_title(what.capitalize(), loc="left", fontsize=10, color=_INK)
    if not found:
        _say(axes, f"the program published no {what}")
        return
    for series, color in zip(found, _COLORS, strict=False):
        mark = "o" if len(series.rounds) < 3 else None
        axes.plot(series.rounds, series.values, color=color, lw=1.8, marker=mark, label=series.name)
    values = [value for series in found for value in series.values]
    least, top = min(0.0, *values), max(values)
    if what == "accuracy" and top <= 1:
        axes.set_ylim(0, 1.0)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    elif top > least:
        axes.set_ylim(1.05 * least, least + 1.05 * (top - least))
    axes.legend(frameon=False, fontsize=8)


def _draw_bytes(axes: Any, rounds: Sequence[Round]) -> None:
    axes.set_title("Sent per round", loc="left", fontsize=10, color=_INK)
    names = list(dict.fromkeys(name for one in rounds for name in one.sent_bytes))
    scale, unit = _unit(max((sum(one.sent_bytes.values()) for one in rounds), default=0))
    bottom = [0.0] * len(rounds)
    for name, color in zip(names, _COLORS, strict=False):
        heights = [one.sent_bytes[name] / scale for one in rounds]
        axes.bar([one.number for one in rounds], heights, bottom=bottom, color=color, width=0.8,
                 label=name or "words of the engine")  # fmt: skip
        bottom = [low + high for low, high in zip(bottom, heights, strict=True)]
    axes.set_ylabel(unit, color=_INK)
    if names:
        axes.set_ylim(0, 1.25 * max(bottom) or 1)
        axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper left")


def _unit(most: float) -> tuple[float, str]:
    for scale, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if most >= scale:
            return scale, unit
    return 1.0, "bytes"


def _draw_answers(axes: Any, rounds: Sequence[Round]) -> None:
    axes.set_title("Peers asked per round", loc="left", fontsize=10, color=_INK)
    if not any(one.asked for one in rounds):
        _say(axes, "nobody was asked for an answer")
        return
    numbers, bottom = [one.number for one in rounds], [0] * len(rounds)
    for label, color, counts in (
        ("answered in time", _DONE, [one.answered for one in rounds]),
        ("answer rejected", _REJECTED, [one.rejected for one in rounds]),
        ("no answer in time", _MISSING, [one.stragglers for one in rounds]),
    ):
        if any(counts):
            axes.bar(numbers, counts, bottom=bottom, color=color, width=0.8, label=label)
        bottom = [low + count for low, count in zip(bottom, counts, strict=True)]
    axes.set_ylim(0, 1.25 * max(bottom))
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper left", columnspacing=1.2)


def _dress(axes: Any, rounds: Sequence[Round]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    last = rounds[-1].number if rounds else 1
    axes.set_xlim(0.4, last + 0.6)
    axes.grid(axis="y", color=_FAINT, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_INK)


def _say(axes: Any, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=_GREY)
