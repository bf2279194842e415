"""Marks on curves of the accuracy: how far nets are guaranteed to be good enough."""

from collections.abc import Mapping
from typing import Any

import pandas
from matplotlib.axes import Axes

from experiment.reporting.guaranteed import guaranteed_nets, promise
from experiment.reporting.plots.figures import once_in_legend


def draw_guaranteed(
    axes: Axes,
    rows: pandas.DataFrame,
    tests: pandas.DataFrame,
    column: str,
    colours: Mapping[str, Any],
) -> None:
    """A star for each method: the means over its guaranteed nets of size and test accuracy.

    Args:
        rows: of results.csv.
        tests: of holdout.csv.
        column: of the size, `prune_ratio` or `keep_ratio`.
        colours: of the methods.
    """
    means = guaranteed_nets(rows, tests).groupby("method")[["prune_ratio", "test_accuracy"]].mean()
    label = promise(*tests.iloc[0][["loss", "at_most", "confidence"]])
    for method, mean in means.iterrows():
        size = mean["prune_ratio"] if column == "prune_ratio" else 1 - mean["prune_ratio"]
        _star(axes, 100 * size, 100 * mean["test_accuracy"], colours[method])
    _star(axes, [], [], "white", once_in_legend(axes, f"guaranteed: {label}"))  # of several runs


def _star(axes: Axes, x: Any, y: Any, colour: Any, label: str | None = None) -> None:
    axes.plot(
        x,
        y,
        linestyle="none",
        marker="*",
        markersize=14,
        markerfacecolor=colour,
        markeredgecolor="black",
        markeredgewidth=0.8,
        zorder=5,
        label=label,
    )
