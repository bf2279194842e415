"""Accuracy right after pruning and after retraining, one panel per method."""

import math

import pandas
from matplotlib.figure import Figure

from experiment.reporting.measures import judged, references
from experiment.reporting.plots.colours import method_colours
from experiment.reporting.plots.curves import (
    ACCURACY_LABEL,
    PRUNE_RATIO_LABEL,
    draw_curve,
    draw_unpruned,
)
from experiment.reporting.plots.figures import experiment_title, literal

MOST_IN_A_ROW = 3  # panels


def before_and_after_retraining(rows: pandas.DataFrame) -> Figure:
    """Draw what retraining gains, from the rows of results.csv."""
    by_method = list(judged(rows).groupby("method", sort=False))
    columns = min(MOST_IN_A_ROW, len(by_method))
    lines = math.ceil(len(by_method) / columns)
    figure = Figure(figsize=(1 + 3.2 * columns, 0.7 + 2.6 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flatten()
    colours = method_colours(method for method, _ in by_method)
    unpruned = references(rows)["test_accuracy"].mean()
    for axes, (method, of_method) in zip(panels, by_method):
        draw_unpruned(axes, 100 * unpruned, label=None)
        draw_curve(axes, of_method, colour=colours[method], label="after retraining")
        draw_curve(
            axes,
            of_method,
            y="accuracy_before_retraining",
            colour="dimgrey",
            label="before retraining",
            marker="s",
            linestyle="--",
        )
        axes.set_title(literal(method), fontsize=9)
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=7)
    for axes in panels[len(by_method) - columns : len(by_method)]:
        axes.tick_params(labelbottom=True)  # there may be no panel below
    for axes in panels[len(by_method) :]:
        axes.set_visible(False)
    figure.suptitle(experiment_title(rows), fontsize=10)
    figure.supxlabel(PRUNE_RATIO_LABEL, fontsize=9)
    figure.supylabel(ACCURACY_LABEL, fontsize=9)
    return figure
