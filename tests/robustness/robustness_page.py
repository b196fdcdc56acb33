"""The tables and the picture of docs/explanation/robustness.md."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

from comparing import ATTACKERS, ATTACKS, CLIENTS, DIVISIONS, ROUNDS, RULES, Cell

__all__ = ["draw", "read_table", "table", "with_table"]

_HEADS = {"none": "nobody attacks", "sign-flip": "sign-flip", "gaussian": "gaussian",
          "label-flip": "label-flip"}  # fmt: skip
_TITLES = {"even": "Even parts", "skewed": "Skewed parts, Dirichlet(0.3)"}
# Of the palette by Okabe and Ito, which people with any colour vision can tell apart.
_COLORS = dict(zip(RULES, ("#000000", "#0072B2", "#009E73", "#D55E00", "#CC79A7"), strict=True))
_STYLES = dict(zip(RULES, ("-", "-", "--", "-", "--"), strict=True))
_INK, _FAINT = "#333333", "#dddddd"


def table(cells: Sequence[Cell], division: str) -> str:
    """Return a table in Markdown: the mean of the seeds, and the least of them."""
    by = {(one.rule, one.attack): one for one in cells if one.division == division}
    lines = [
        "| Rule | " + " | ".join(_HEADS[attack] for attack in ATTACKS) + " |",
        "|---|" + "---|" * len(ATTACKS),
    ]
    for rule in RULES:
        shown = (by[rule, attack] for attack in ATTACKS)
        figures = " | ".join(f"{one.mean:.3f} ({min(one.last):.3f})" for one in shown)
        lines.append(f"| `{rule}` | {figures} |")
    return "\n".join(lines)


def with_table(page: str, division: str, text: str) -> str:
    """Return a page with a table between its markers."""
    begin, end = f"<!-- table {division} -->", f"<!-- end {division} -->"
    before, rest = page.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n{text}\n{end}{after}"


def read_table(page: str, division: str) -> dict[tuple[str, str], float]:
    """Return the means that stand in a page."""
    _, rest = page.split(f"<!-- table {division} -->")
    text, _ = rest.split(f"<!-- end {division} -->")
    found: dict[tuple[str, str], float] = {}
    for line in text.strip().splitlines()[2:]:
        rule, *shown = [cell.strip() for cell in line.strip("|").split("|")]
        for attack, cell in zip(ATTACKS, shown, strict=True):
            told = re.fullmatch(r"(\d\.\d{3}) \(\d\.\d{3}\)", cell)
            assert told is not None, line
            found[rule.strip("`"), attack] = float(told[1])
    return found


def draw(cells: Sequence[Cell]) -> bytes:
    """Return a PNG: one panel for each attack and division, one line for each rule."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib.figure import Figure

    divisions = [one for one in DIVISIONS if any(cell.division == one for cell in cells)]
    figure: Any = Figure(figsize=(12, 3.0 * len(divisions) + 1.0), dpi=110, layout="constrained")
    panels: Any = figure.subplots(
        len(divisions), len(ATTACKS), sharex=True, sharey=True, squeeze=False
    )
    for row, division in zip(panels, divisions, strict=True):
        for axes, attack in zip(row, ATTACKS, strict=True):
            some = [one for one in cells if (one.division, one.attack) == (division, attack)]
            for cell in some:
                _draw_cell(axes, cell)
            _dress(axes, _HEADS[attack])
        row[0].set_ylabel(f"{_TITLES[division]}\naccuracy", color=_INK)
    for axes in panels[-1]:
        axes.set_xlabel("round", color=_INK)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(RULES), frameon=False)
    figure.suptitle(
        f"Held-out accuracy on the digits, {ATTACKERS} of {CLIENTS} clients attack: "
        "mean of the seeds, and their range", x=0.01, ha="left", fontsize=11, color=_INK,
    )  # fmt: skip
    image = io.BytesIO()
    # Without this matplotlib writes its version into the file.
    figure.savefig(image, format="png", metadata={"Software": None})
    return image.getvalue()


def _draw_cell(axes: Any, cell: Cell) -> None:
    by_round = list(zip(*(curve.accuracies for curve in cell.curves), strict=True))
    rounds = range(1, len(by_round) + 1)
    means = [sum(values) / len(values) for values in by_round]
    color, style = _COLORS[cell.rule], _STYLES[cell.rule]
    axes.fill_between(rounds, [min(v) for v in by_round], [max(v) for v in by_round], color=color,
                      alpha=0.10, lw=0)  # fmt: skip
    axes.plot(rounds, means, color=color, ls=style, lw=1.7, label=cell.rule)


def _dress(axes: Any, title: str) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    axes.set_title(title, loc="left", fontsize=10, color=_INK)
    axes.set_ylim(0, 1)
    axes.set_xlim(1, ROUNDS)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(axis="y", color=_FAINT, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_INK)
