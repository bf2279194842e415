"""Curves of test accuracy against prune ratio, with both in percent."""

from typing import Any

import pandas
from matplotlib.axes import Axes

from experiment.reporting.plots.figures import literal

PRUNE_RATIO_LABEL = "prune ratio: parameters removed (%)"
ACCURACY_LABEL = "test accuracy (%)"
MARKERS = "os^vDP"


def mean_and_deviation(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Mean prune ratio, and mean and standard deviation of the test accuracy over nets, by step.

    Repetitions of one net are averaged first. With one net the deviation is 0.
    """
    by_net = rows.groupby(["step", "net_seed"])[["prune_ratio", "test_accuracy"]].mean()
    by_step = by_net.groupby("step")
    table = by_step.mean()
    table["deviation"] = by_step["test_accuracy"].std(ddof=1).fillna(0.0)
    return table.sort_values("prune_ratio")


def draw_curve(
    axes: Axes,
    rows: pandas.DataFrame,
    *,
    colour: Any,
    label: str,
    marker: str = "o",
    band_opacity: float = 0.2,
) -> None:
    """Draw mean accuracy against mean prune ratio, with a band of one standard deviation."""
    percent = 100 * mean_and_deviation(rows)
    prune_ratio = percent["prune_ratio"]
    accuracy = percent["test_accuracy"]
    axes.plot(
        prune_ratio,
        accuracy,
        marker=marker,
        markersize=3.5,
        linewidth=1.5,
        color=colour,
        label=literal(label),
    )
    axes.fill_between(
        prune_ratio,
        accuracy - percent["deviation"],
        accuracy + percent["deviation"],
        color=colour,
        alpha=band_opacity,
        linewidth=0,
    )


def draw_unpruned(
    axes: Axes,
    accuracy: float,
    *,
    colour: Any = "black",
    label: str | None = "unpruned",
    linewidth: float = 1.0,
) -> None:
    """Draw the accuracy of unpruned nets, in percent, as a dashed line.

    Without a label it is not in the legend.
    """
    axes.axhline(
        accuracy,
        color=colour,
        linestyle="--",
        linewidth=linewidth,
        label=literal(f"{label} ({accuracy:.1f}%)") if label else None,
    )
