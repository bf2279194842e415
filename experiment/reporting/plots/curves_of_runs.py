"""The figure of one or several runs: a measure against the size, one curve per method."""

import itertools
import math
from collections.abc import Mapping, Sequence

import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from experiment.core.errors import UserError
from experiment.core.spelling import nearest
from experiment.reporting.measures import SHARES, X_AXES, Y_AXES, judged, references
from experiment.reporting.plots.colours import method_colours
from experiment.reporting.plots.curves import PRUNE_RATIO_LABEL, draw_curve, draw_unpruned, look
from experiment.reporting.plots.figures import ShownFigure, experiment_title, literal
from experiment.reporting.plots.guaranteed import draw_guaranteed

MOST_BESIDE = 8  # curves of which the legend fits beside the curves, inside the axes
TICKS = (100, 50, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)  # percent of kept parameters
SHORT_NAMES = {  # for the command line, besides the names of the columns
    "flops": "flop_reduction",
    "delta": "difference",
    "before_retraining": "accuracy_before_retraining",
    "top5": "test_top5",
    "loss": "test_loss",
}

Runs = Mapping[str, pandas.DataFrame]  # the rows of results.csv by the run's label


def draw(
    runs: Runs,
    *,
    x: str = "prune_ratio",
    y: str = "test_accuracy",
    log: bool = False,
    published: pandas.DataFrame | None = None,
    tests: Runs | None = None,
) -> Figure:
    """Draw a measure of pruned nets against their size.

    Args:
        runs: one, or several whose labels are then in the legend. A method has its colour; marker
            and kind of line are another for each curve.
        x: `prune_ratio` or `flops`.
        y: a column of results.csv, `delta` for instance; see `Y_AXES` and `SHORT_NAMES`.
        log: show what is kept, on a logarithmic axis, instead of what is removed.
        published: points of publications to be drawn beside, with columns `method`, `prune_ratio`,
            `test_accuracy`, `unpruned_accuracy` and `source`.
        tests: of holdout.csv, by the run's label. How far nets are guaranteed is marked on the
            curves of the test accuracy.

    Raises:
        UserError: for an axis that there is not, or that has no published points.
    """
    x, y = _known("x", x, X_AXES), _known("y", y, Y_AXES)
    curves = _curves(runs)
    column = "keep_ratio" if log and x == "prune_ratio" else x
    if log and x == "flop_reduction":
        column = "flop_keep_ratio"
    few = len(curves) <= MOST_BESIDE and published is None
    size = (7, 4.5) if few else (9.5, max(5, 0.8 + 0.21 * len(curves)))
    figure = ShownFigure(figsize=size, layout="constrained")
    axes = figure.subplots()
    _draw_unpruned_nets(axes, runs, y)
    methods = [method for _, method, _ in curves]
    colours = method_colours([*methods, *([] if published is None else published["method"])])
    for index, (label, method, rows) in enumerate(curves):
        marker, dashes = look(index)
        draw_curve(
            axes,
            rows,
            x=column,
            y=y,
            colour=colours[method],
            label=label,
            marker=marker,
            linestyle=dashes,
        )
    if y == "test_accuracy" and x == "prune_ratio":
        for run, of_run in (tests or {}).items():
            if len(of_run):
                draw_guaranteed(axes, runs[run], of_run, column, colours)
    if published is not None:
        _draw_published(axes, published, column, y, colours)
    _label(axes, runs, column, y)
    if axes.get_legend_handles_labels()[0]:
        if few:
            axes.legend(fontsize=8)
        else:
            figure.legend(loc="outside right upper", fontsize=8)
    return figure


def _known(axis: str, name: str, names: Mapping[str, str]) -> str:
    """The column that a name stands for."""
    column = SHORT_NAMES.get(name, name)
    if column not in names:
        known = [*names, *(short for short, long in SHORT_NAMES.items() if long in names)]
        raise UserError(
            f"there is no {axis} axis '{name}'{nearest(name, known)} "
            f"(there are: {', '.join(known)})"
        )
    return column


def _curves(runs: Runs) -> list[tuple[str, str, pandas.DataFrame]]:
    """Label, method and rows of each curve. Only retrained steps count, if there are any."""
    curves = []
    for label, rows in runs.items():
        num_nets = rows["net_seed"].nunique()
        for method, of_method in judged(rows).groupby("method", sort=False):
            finished = of_method["net_seed"].nunique()
            name = str(method)
            if finished < num_nets:
                name += f" ({finished} of {num_nets} nets)"
            curves.append((f"{name}, {label}" if len(runs) > 1 else name, method, of_method))
    return curves


def _draw_unpruned_nets(axes: Axes, runs: Runs, y: str) -> None:
    """A line for the unpruned nets: zero for differences, otherwise what they reach on average."""
    if y == "difference":
        draw_unpruned(axes, 0.0, label=None)
        return
    column = "test_accuracy" if y == "accuracy_before_retraining" else y
    factor, unit, digits = (100, "%", ".1f") if y in SHARES else (1, "", ".3g")
    means = {label: factor * references(rows)[column].mean() for label, rows in runs.items()}
    by_value: dict[str, list[str]] = {}
    for label, mean in means.items():
        if not math.isnan(mean):
            by_value.setdefault(f"{mean:.4g}", []).append(label)
    for labels in by_value.values():
        name = "unpruned" if len(by_value) == 1 else f"unpruned, {', '.join(labels)}"
        draw_unpruned(axes, means[labels[0]], label=name, unit=unit, digits=digits)


def _draw_published(
    axes: Axes, published: pandas.DataFrame, column: str, y: str, colours: Mapping[str, str]
) -> None:
    """Large hollow markers for published points, one kind for each source."""
    values = published["test_accuracy"]
    if y == "difference":
        values = values - published["unpruned_accuracy"]
    elif y != "test_accuracy":
        raise UserError(
            f"published points have a test accuracy and a difference to the unpruned net "
            f"(--y delta), and no {y}"
        )
    column_there = "flop_reduction" if column.startswith("flop") else "prune_ratio"
    position = published[column_there]
    if column in ("keep_ratio", "flop_keep_ratio"):
        position = 1 - position
    markers = dict(zip(published["source"].unique(), itertools.cycle("*XhpH8")))
    points = published.assign(position=position, value=values)
    for (method, source), rows in points.groupby(["method", "source"], sort=False):
        axes.plot(
            100 * rows["position"],
            100 * rows["value"],
            linestyle="none",
            marker=markers[source],
            markersize=9,
            markerfacecolor="none",
            markeredgecolor=colours[method],
            label=literal(f"{method}, {source}"),
        )


def _label(axes: Axes, runs: Runs, column: str, y: str) -> None:
    titles: Sequence[str] = list(dict.fromkeys(experiment_title(rows) for rows in runs.values()))
    axes.set_title(titles[0] if len(titles) == 1 else "", fontsize=10)
    axes.set_ylabel(Y_AXES[y])
    axes.grid(alpha=0.3)
    if column not in ("keep_ratio", "flop_keep_ratio"):
        axes.set_xlabel(PRUNE_RATIO_LABEL if column == "prune_ratio" else X_AXES[column])
        return
    axes.set_xscale("log")
    axes.invert_xaxis()  # smaller nets on the right, as on the other axes
    what = "parameters" if column == "keep_ratio" else "FLOPs"
    axes.set_xlabel(f"{what} kept (%), logarithmic")
    axes.xaxis.set_major_locator(FixedLocator(TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
