"""The figure of a run: test accuracy against prune ratio, one curve per method."""

import itertools
from pathlib import Path

import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiment.reporting.plots.colours import method_colours
from experiment.reporting.plots.curves import (
    ACCURACY_LABEL,
    MARKERS,
    PRUNE_RATIO_LABEL,
    draw_curve,
    draw_unpruned,
)
from experiment.reporting.plots.figures import experiment_title, save
from experiment.reporting.records import REFERENCE
from experiment.reporting.summary import evaluated

FEW = 6  # methods that are told apart without markers, and whose legend fits beside the curves


def accuracy_vs_sparsity(rows: pandas.DataFrame, path: Path) -> Path:
    """Draw the results of a run; write `path`.png and `path`.pdf and return the path of the first.

    If some steps were retrained, only those are drawn: the others are intermediate.
    """
    num_methods = evaluated(rows)["method"].nunique()
    few = num_methods <= FEW
    size = (7, 4.5) if few else (9, max(5, 0.8 + 0.21 * num_methods))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    _draw_methods(axes, rows)
    axes.set_title(experiment_title(rows), fontsize=10)
    axes.set_xlabel(PRUNE_RATIO_LABEL)
    axes.set_ylabel(ACCURACY_LABEL)
    axes.grid(alpha=0.3)
    if few:
        axes.legend(loc="lower left", fontsize=9)
    else:
        figure.legend(loc="outside right upper", fontsize=9)
    return save(figure, path)


def _draw_methods(axes: Axes, rows: pandas.DataFrame) -> None:
    """Draw the line of the unpruned nets and the curve of each method."""
    reference = rows[rows["method"] == REFERENCE]
    if len(reference):
        draw_unpruned(axes, 100 * reference["test_accuracy"].mean())
    num_nets = rows["net_seed"].nunique()
    pruned = evaluated(rows)
    methods = pruned["method"].unique().tolist()
    colours = method_colours(methods)
    markers = MARKERS if len(methods) > FEW else MARKERS[:1]
    for method, marker in zip(methods, itertools.cycle(markers)):
        of_method = pruned[pruned["method"] == method]
        finished = of_method["net_seed"].nunique()
        label = method if finished == num_nets else f"{method} ({finished} of {num_nets} nets)"
        draw_curve(axes, of_method, colour=colours[method], label=label, marker=marker)
