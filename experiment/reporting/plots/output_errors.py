"""The figure of output errors: certified and measured, against the sparsity."""

from pathlib import Path

import pandas
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from experiment.reporting.plots.colours import method_colours
from experiment.reporting.plots.curves import PRUNE_RATIO_LABEL, look
from experiment.reporting.plots.figures import ShownFigure, literal, save

# By quantity: the label of the axis, what 1 is there, and whether bounds reach it.
PANELS = {
    "relative_error": ("relative error of the logits", 1, True),
    "total_variation": ("total variation of the probabilities", 1, True),
    "disagreement": ("predictions that change (%)", 100, False),
    "accuracy_drop": ("accuracy drop (points)", 100, False),
}


def output_errors_vs_sparsity(rows: pandas.DataFrame, path: Path) -> Path:
    """Draw what is certified (filled, solid) and measured on test images (hollow, dotted).

    One panel per quantity; means over nets. Where a curve of bounds ends, they are infinite. Writes
    `path`.png and `path`.pdf and returns the path of the first.

    Args:
        rows: of output_errors.csv.
        path: of the figure, without a suffix.
    """
    figure = ShownFigure(figsize=(10, 7.6), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True).flat
    methods = rows["method"].unique().tolist()
    colours = method_colours(methods)
    for axes, (quantity, (label, factor, has_limit)) in zip(panels, PANELS.items()):
        for number, method in enumerate(methods):
            of_method = rows[rows["method"] == method]
            _draw(axes, of_method, quantity, factor, colours[method], look(number)[0])
        if has_limit:
            axes.axhline(factor, color="grey", linewidth=0.8, linestyle=(0, (1, 2)))
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    for axes in figure.axes[2:]:
        axes.set_xlabel(PRUNE_RATIO_LABEL)
    for axes in figure.axes[:1]:
        axes.set_yscale("log")
    figure.legend(
        handles=_handles(methods, colours), loc="outside lower center", ncols=4, fontsize=8
    )
    figure.suptitle(_title(rows), fontsize=10)
    return save(figure, path)


def _draw(
    axes: Axes, rows: pandas.DataFrame, quantity: str, factor: int, colour: object, marker: str
) -> None:
    """The two curves of a method."""
    columns = ["prune_ratio", f"{quantity}_certified", f"{quantity}_measured"]
    means = rows.groupby("step")[columns].mean().sort_values("prune_ratio")
    means = means.replace(float("inf"), float("nan"))
    for column, style, fill in zip(columns[1:], ("-", ":"), (colour, "none")):
        axes.plot(
            100 * means["prune_ratio"],
            factor * means[column],
            linestyle=style,
            marker=marker,
            markersize=4,
            linewidth=1.4,
            color=colour,
            markerfacecolor=fill,
        )


def _handles(methods: list[str], colours: dict) -> list[Line2D]:
    handles = [
        Line2D([], [], color=colours[method], marker=look(number)[0], label=literal(method))
        for number, method in enumerate(methods)
    ]
    handles += [
        Line2D([], [], color="black", marker="o", label="certified"),
        Line2D([], [], color="black", ls=":", marker="o", mfc="none", label="measured on test set"),
    ]
    limit = Line2D([], [], color="grey", linestyle=(0, (1, 2)), label="above, a bound says nothing")
    return [*handles, limit]


def _title(rows: pandas.DataFrame) -> str:
    first = rows.iloc[0]
    return (
        f"{literal(first['network'])} on {literal(first['dataset'])}: errors that at most "
        f"{100 * first['share']:g}% of new images exceed, {100 * first['confidence']:g}% confidence"
    )
