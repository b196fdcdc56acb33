"""The plot: accuracy per round, beside the baselines. Imports matplotlib, so call it last."""

from __future__ import annotations

import io
import statistics
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bytesandbrains.demo.baselines import Baselines
    from bytesandbrains.demo.federation import Round, Settings

__all__ = ["draw"]

# Of the palette by Okabe and Ito, which people with any colour vision can tell apart.
_FEDERATED = "#0072B2"
_CENTRALIZED = "#D55E00"
_LOCAL = "#009E73"
_INK = "#333333"


def draw(settings: Settings, rounds: list[Round], baselines: Baselines | None) -> bytes:
    """Return a PNG of the accuracies on the held-out examples."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(8, 4.8), dpi=150, layout="constrained")
    axes: Any = figure.add_subplot()
    x = [one.round for one in rounds]
    federated = [one.accuracy for one in rounds]
    labels = [(federated[-1], f"federated {federated[-1]:.3f}", _FEDERATED)]
    axes.plot(x, federated, color=_FEDERATED, lw=2.2, zorder=4, label="federated averaging")
    if baselines:
        labels += _draw_baselines(axes, x, baselines)
    _dress(axes, settings, len(x))
    _label_ends(axes, x[-1], labels)
    if len(x) == 1:  # a line through one point cannot be seen
        for line in axes.get_lines():
            line.set_marker("o")
    image = io.BytesIO()
    # Without this matplotlib writes its version into the file.
    figure.savefig(image, format="png", metadata={"Software": None})
    return image.getvalue()


def _draw_baselines(axes: Any, x: list[int], baselines: Baselines) -> list[tuple[float, str, str]]:
    whole, parts = baselines.centralized, list(zip(*baselines.local_only, strict=True))
    means = [statistics.fmean(part) for part in parts]
    whole_label = "centralized: all data in one place"
    alone_label = "local only: mean of the clients, and their range"
    axes.plot(x, whole, color=_CENTRALIZED, lw=1.8, ls="--", zorder=3, label=whole_label)
    axes.plot(x, means, color=_LOCAL, lw=1.8, ls="-.", zorder=2, label=alone_label)
    axes.fill_between(
        x, [min(part) for part in parts], [max(part) for part in parts], color=_LOCAL, alpha=0.13,
        lw=0, zorder=1,
    )  # fmt: skip
    return [
        (whole[-1], f"centralized {whole[-1]:.3f}", _CENTRALIZED),
        (means[-1], f"local only {means[-1]:.3f}", _LOCAL),
    ]


def _dress(axes: Any, settings: Settings, count: int) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    axes.set_title(
        f"Handwritten digits over {settings.clients} clients\n",
        loc="left", fontweight="bold", color=_INK,
    )  # fmt: skip
    axes.text(
        0, 1.02,
        f"cohorts of {settings.cohort}, Dirichlet({settings.alpha:g}) partition, "
        f"seed {settings.seed}",
        transform=axes.transAxes, color="#666666", fontsize=9,
    )  # fmt: skip
    axes.set_xlabel(f"round (each {settings.epochs} local epochs)", color=_INK)
    axes.set_ylabel("accuracy on held-out images", color=_INK)
    axes.set_xlim(*((1, count) if count > 1 else (0.5, 1.5)))
    axes.set_ylim(None, 1.0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(axis="y", color="#dddddd", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_INK)
    axes.legend(loc="lower right", frameon=True, framealpha=0.9, edgecolor="none", fontsize=9)


def _label_ends(axes: Any, x: int, labels: list[tuple[float, str, str]]) -> None:
    """Write each line's last value beside its end, moved apart where they would touch."""
    low, high = axes.get_ylim()
    apart = 0.045 * (high - low)
    at = high + apart
    for value, text, color in sorted(labels, reverse=True):
        at = min(value, at - apart)
        axes.annotate(
            text, (x, at), xytext=(6, 0), textcoords="offset points", va="center", color=color,
            fontsize=9, annotation_clip=False,
        )  # fmt: skip
