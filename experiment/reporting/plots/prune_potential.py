"""The figure of prune potentials: how far each method can prune, by corruption and severity."""

import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiment.reporting.plots.colours import method_colours
from experiment.reporting.plots.curves import look
from experiment.reporting.plots.figures import literal
from experiment.reporting.records import CLEAN, MEAN_OF_CORRUPTIONS

MOST_COLUMNS = 4  # of panels
SHIFT = 0.06  # severities between the points of two methods, so that their bars can be told apart


def prune_potential(summary: pandas.DataFrame) -> Figure:
    """Draw mean and deviation over nets; one panel per corruption, clean images as severity 0.

    The last panel is that of the mean of corruptions, if it is there.

    Args:
        summary: the rows of corruption_summary.csv.
    """
    corruptions = [name for name in summary["corruption"].unique() if name != CLEAN]
    methods = summary["method"].unique().tolist()
    num_columns = min(MOST_COLUMNS, len(corruptions))
    num_lines = -(-len(corruptions) // num_columns)
    figure = Figure(figsize=(1 + 2.5 * num_columns, 1.3 + 2.2 * num_lines), layout="constrained")
    panels = figure.subplots(num_lines, num_columns, sharey=True, squeeze=False)
    severities = sorted(summary["severity"].unique().tolist())
    colours = method_colours(methods)
    for axes, corruption in zip(panels.flatten(), corruptions):
        shown = summary[summary["corruption"].isin([CLEAN, corruption])]
        axes.set_title(corruption.replace("_", " "), fontsize=9)
        if corruption == MEAN_OF_CORRUPTIONS:
            shown = shown.assign(severity=(shown["corruption"] == MEAN_OF_CORRUPTIONS).astype(int))
            axes.set_xticks([0, 1], [CLEAN, "mean"])
            axes.set_xlim(-1.5, 2.5)
        else:
            axes.set_xticks(severities, [str(one) if one else CLEAN for one in severities])
            axes.set_xlabel("severity", fontsize=8)
        _draw(axes, shown, methods, colours)
    for axes in panels.flatten()[len(corruptions) :]:
        axes.set_axis_off()
    panels[0, 0].set_ylim(-3, 103)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(6, len(labels)), fontsize=8
    )
    figure.supylabel("prune potential (%)", fontsize=9)
    figure.suptitle(_title(summary), fontsize=9)
    return figure


def _draw(axes: Axes, shown: pandas.DataFrame, methods: list[str], colours: dict[str, str]) -> None:
    """The points of one panel."""
    for index, method in enumerate(methods):
        rows = shown[shown["method"] == method].sort_values("severity")
        marker, dashes = look(index)
        axes.errorbar(
            rows["severity"] + SHIFT * (index - (len(methods) - 1) / 2),
            100 * rows["prune_potential_mean"],
            yerr=100 * rows["prune_potential_std"].fillna(0.0),
            marker=marker,
            markersize=4,
            linestyle=dashes,
            linewidth=1.2,
            elinewidth=0.8,
            color=colours[method],
            label=literal(method),
        )
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=8)


def _title(summary: pandas.DataFrame) -> str:
    """What was chosen, and on what."""
    points = 100 * summary["commensurate_margin"].iloc[0]
    num_nets = summary["nets"].max()
    of_nets = f", mean and standard deviation over {num_nets} nets" if num_nets > 1 else ""
    return (
        f"largest prune ratio with an error at most {points:g} points above the unpruned net's\n"
        f"on the same images, chosen on these test images{of_nets}"
    )
