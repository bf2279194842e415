"""Curves of a measure over a range of sizes, both in percent where they are shares."""

from typing import Any

import pandas
from matplotlib.axes import Axes

from experiment.reporting.measures import SHARES
from experiment.reporting.plots.figures import literal, once_in_legend

PRUNE_RATIO_LABEL = "prune ratio: parameters removed (%)"
ACCURACY_LABEL = "test accuracy (%)"
PARTIAL_LABEL = "small and hollow: of fewer nets"
MARKERS = "os^vDP"
DASHES = ("-", "--", ":", "-.")


def mean_and_deviation(rows: pandas.DataFrame, x: str, y: str) -> pandas.DataFrame:
    """Means of two columns and the standard deviation of the second over nets, by step.

    Repetitions of one net are averaged first. With one net the deviation is unknown (nan).
    `is_partial` where other steps have more nets, as in a run that has not ended.
    """
    by_net = rows.groupby(["step", "net_seed"])[[x, y]].mean()
    by_step = by_net.groupby("step")
    table = by_step.mean()
    table["deviation"] = by_step[y].std(ddof=1)
    nets = by_step.size()
    table["is_partial"] = nets < nets.max()
    return table.sort_values(x)


def look(index: int) -> tuple[str, str]:
    """Marker and kind of line of a curve, which tell it from the others without any colour.

    They are the same in report.html (`chart.js`). No two of 24 curves have the same of both.
    """
    return MARKERS[index % 6], DASHES[(index + index // 12) % 4]


def draw_curve(
    axes: Axes,
    rows: pandas.DataFrame,
    *,
    x: str = "prune_ratio",
    y: str = "test_accuracy",
    colour: Any,
    label: str,
    marker: str = "o",
    linestyle: str = "-",
    band_opacity: float = 0.15,
) -> None:
    """Draw the mean of a column against that of another, with a band of one standard deviation.

    A single net has no band. Markers are hollow where a mean is of fewer nets than others of the
    curve.
    """
    table = mean_and_deviation(rows, x, y)
    factor = 100 if y in SHARES else 1
    position = table[x] * (100 if x in SHARES else 1)
    value, deviation = factor * table[y], factor * table["deviation"]
    axes.plot(
        position,
        value,
        marker=marker,
        linestyle=linestyle,
        markersize=4,
        linewidth=1.4,
        color=colour,
        label=literal(label),
    )
    partial = table["is_partial"]
    if partial.any():
        _draw_hollow(axes, position[partial], value[partial], marker, colour)
    axes.fill_between(
        position,
        value - deviation,
        value + deviation,
        color=colour,
        alpha=band_opacity,
        linewidth=0,
    )


def _draw_hollow(
    axes: Axes, position: pandas.Series, value: pandas.Series, marker: str, colour: Any
) -> None:
    """Markers of partial means; what they are is in the legend once."""
    axes.plot(
        position,
        value,
        linestyle="none",
        marker=marker,
        markersize=4,
        color=colour,
        markerfacecolor="white",
        zorder=2.5,  # above the line and its own markers
        label=once_in_legend(axes, PARTIAL_LABEL),
    )


def draw_unpruned(
    axes: Axes,
    value: float,
    *,
    colour: Any = "black",
    label: str | None = "unpruned",
    linewidth: float = 1.0,
    unit: str = "%",
    digits: str = ".1f",
) -> None:
    """Draw what unpruned nets reach as a line of long dashes.

    Without a label it is not in the legend.
    """
    axes.axhline(
        value,
        color=colour,
        linestyle=(0, (8, 3)),
        linewidth=linewidth,
        label=literal(f"{label} ({value:{digits}}{unit})") if label else None,
    )
