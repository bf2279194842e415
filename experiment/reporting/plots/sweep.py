"""The figure of a sweep: accuracy against prune ratio, one panel per method, one curve per run."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import pandas
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_rgb

from experiment.reporting.plots.colours import method_colours
from experiment.reporting.plots.curves import (
    ACCURACY_LABEL,
    MARKERS,
    PRUNE_RATIO_LABEL,
    draw_curve,
    draw_unpruned,
)
from experiment.reporting.plots.figures import (
    experiment_title,
    figure_with_panels,
    literal,
    save,
)
from experiment.reporting.records import REFERENCE
from experiment.reporting.summary import evaluated

LabelledRuns = Sequence[tuple[str, pandas.DataFrame]]  # labels, with the rows of results.csv


def sweep_accuracy_vs_sparsity(runs: LabelledRuns, path: Path) -> Path:
    """Draw all runs of a sweep; write `path`.png and `path`.pdf and return the path of the first.

    The curves of a panel go from light to dark shades of the method's colour, in the order of the
    runs; if there is only one method, through the colours of viridis.
    """
    rows = pandas.concat([of_run for _, of_run in runs], ignore_index=True)
    methods = evaluated(rows)["method"].unique().tolist() or ["unpruned"]
    figure, panels = figure_with_panels(len(methods), 5, 4.2 + 0.06 * len(runs))
    colours = method_colours(methods)
    for axes, method in zip(panels, methods):
        if len(methods) > 1:
            colormap = _shades(colours[method])
        else:
            colormap = matplotlib.colormaps["viridis"]
        _draw_panel(axes, method, runs, colormap)
    panels[0].set_ylabel(ACCURACY_LABEL)
    figure.suptitle(experiment_title(rows), fontsize=10)
    return save(figure, path)


def _draw_panel(axes: Axes, method: str, runs: LabelledRuns, colormap: Colormap) -> None:
    """Draw the curves of one method, and the accuracies of unpruned nets."""
    colours = [colormap(index / max(1, len(runs) - 1)) for index in range(len(runs))]
    _draw_unpruned(axes, method, runs, colours)
    for index, (label, rows) in enumerate(runs):
        of_method = _rows_of(method, rows)
        if len(of_method):
            draw_curve(
                axes,
                of_method,
                colour=colours[index],
                label=f"{method}, {label}",
                marker=MARKERS[index % len(MARKERS)],
                band_opacity=0.4 / (1 + len(runs)),
            )
    axes.set_title(literal(method), fontsize=9)
    axes.set_xlabel(PRUNE_RATIO_LABEL)
    axes.grid(alpha=0.3)
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.14),
        fontsize=6,
        ncols=3 if len(runs) > 8 else 2,
    )


def _draw_unpruned(
    axes: Axes, method: str, runs: LabelledRuns, colours: Sequence[tuple[float, ...]]
) -> None:
    """Draw one black line if all runs share an unpruned accuracy, else one line per run.

    The line of a run is in the legend only if the method has no curve there to name the run.
    """
    accuracies = [_unpruned_accuracy(rows) for _, rows in runs]
    if len(set(accuracies)) == 1:
        draw_unpruned(axes, accuracies[0])
        return
    for (label, rows), accuracy, colour in zip(runs, accuracies, colours):
        has_curve = len(_rows_of(method, rows)) > 0
        name = None if has_curve else f"unpruned, {label}"
        draw_unpruned(axes, accuracy, colour=colour, label=name, linewidth=0.8)


def _unpruned_accuracy(rows: pandas.DataFrame) -> float:
    return 100 * rows.loc[rows["method"] == REFERENCE, "test_accuracy"].mean()


def _rows_of(method: str, rows: pandas.DataFrame) -> pandas.DataFrame:
    """The rows of one method that are drawn."""
    pruned = evaluated(rows)
    return pruned[pruned["method"] == method]


def _shades(colour: str) -> Colormap:
    """A colormap from a light to a dark shade of a colour."""
    middle = to_rgb(colour)
    light = [1 - 0.45 * (1 - part) for part in middle]
    dark = [0.35 * part for part in middle]
    return LinearSegmentedColormap.from_list("shades", [light, middle, dark])
