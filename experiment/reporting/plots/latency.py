"""Accuracy against latency, one panel per runtime and batch size."""

import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiment.reporting.plots.colours import method_colours
from experiment.reporting.plots.curves import ACCURACY_LABEL, look
from experiment.reporting.plots.figures import literal
from experiment.reporting.records import REFERENCE

UNPRUNED = "unpruned"


def accuracy_vs_latency(table: pandas.DataFrame) -> Figure:
    """Draw what pruned nets reach, and how long they take, from the rows of latency.csv.

    Points are medians with their quartiles; a line joins those of a method by how much is kept.
    """
    runtimes = list(dict.fromkeys(table["runtime"]))
    batch_sizes = sorted(table["batch_size"].unique())
    figure = Figure(
        figsize=(1 + 2.6 * len(runtimes), 1.4 + 2.4 * len(batch_sizes)), layout="constrained"
    )
    panels = figure.subplots(len(batch_sizes), len(runtimes), sharey=True, squeeze=False)
    methods = [name for name in dict.fromkeys(table["method"]) if name != REFERENCE]
    colours = method_colours(methods)
    for line, batch_size in zip(panels, batch_sizes):
        for axes, runtime in zip(line, runtimes):
            is_shown = (table["runtime"] == runtime) & (table["batch_size"] == batch_size)
            _draw(axes, table[is_shown], methods, colours)
            title = [f"{runtime}, batches of {batch_size}"]
            if table["device"].nunique() > 1 and is_shown.any():
                title.append(f"on {_processors(table[is_shown])}")
            axes.set_title("\n".join(map(literal, title)), fontsize=8)
            axes.grid(alpha=0.3)
    for axes in panels[-1]:
        axes.set_xlabel("latency of a batch (ms)", fontsize=8)
    handles = {
        label: handle
        for axes in panels.flatten()
        for handle, label in zip(*axes.get_legend_handles_labels())
    }
    labels = [one for one in [UNPRUNED, *map(literal, methods)] if one in handles]
    figure.legend(
        [handles[label] for label in labels],
        labels,
        loc="outside lower center",
        ncols=min(len(labels), 6),
        fontsize=8,
    )
    figure.suptitle(_title(table), fontsize=10)
    figure.supylabel(ACCURACY_LABEL, fontsize=9)
    return figure


def _draw(axes: Axes, table: pandas.DataFrame, methods: list[str], colours: dict[str, str]) -> None:
    """The points of one panel."""
    for index, method in enumerate([REFERENCE, *methods]):
        rows = table[table["method"] == method].sort_values("keep_ratio")
        if not len(rows):
            continue
        median = rows["median_ms"]
        spread = [median - rows["quartile_1_ms"], rows["quartile_3_ms"] - median]
        marker, dashes = look(index - 1) if index else ("*", "none")
        axes.errorbar(
            median,
            100 * rows["test_accuracy"],
            xerr=spread,
            marker=marker,
            markersize=5 if index else 11,
            linestyle=dashes,
            linewidth=1.2,
            elinewidth=0.8,
            color=colours[method] if index else "black",
            label=literal(method) if index else UNPRUNED,
        )
    axes.set_xlim(left=0)
    axes.tick_params(labelsize=8)


def _title(table: pandas.DataFrame) -> str:
    """What was measured, and on what, unless runtimes differ in that."""
    first = table.iloc[0]
    title = f"{first['network']} on {first['dataset']}"
    if table["device"].nunique() == 1:
        title += f", on {_processors(table)}"
    return literal(title)


def _processors(table: pandas.DataFrame) -> str:
    """The device of some rows, and its threads if it is no GPU."""
    first = table.iloc[0]
    if first["threads"] != first["threads"]:
        return str(first["device"])
    threads = int(first["threads"])
    return f"{first['device']}, {threads} thread{'s' if threads > 1 else ''}"
