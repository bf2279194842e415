"""The figure of certificates: certified against measured relative errors."""

from pathlib import Path

import matplotlib
import pandas
from matplotlib.axes import Axes

from experiment.reporting.plots.figures import figure_with_panels, literal, save

RATIO = "keep_ratio_requested"
MEASURED = "measured_p95"
CERTIFIED = "certified_p95"


def certificate_vs_measurement(rows: pandas.DataFrame, path: Path) -> Path:
    """Draw the certified against the measured relative error of each layer, 95th percentiles.

    One panel per method, one colour per keep ratio; above the diagonal, the certificate is larger
    than the error. Writes `path`.png and `path`.pdf and returns the path of the first.

    Args:
        rows: of guarantee.csv, for one size of S.
        path: of the figure, without a suffix.
    """
    methods = rows["method"].unique().tolist()
    figure, panels = figure_with_panels(len(methods), 4, 4.2)
    shown = rows[(rows[MEASURED] > 0) & (rows[CERTIFIED] > 0)]  # the axes are logarithmic
    colours = _ratio_colours(rows)
    for axes, method in zip(panels, methods):
        _draw_points(axes, shown[shown["method"] == method], colours)
        _draw_diagonal(axes, shown)
        axes.set(
            xscale="log", yscale="log", title=literal(method), xlabel="measured relative error"
        )
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("certified relative error")
    panels[-1].legend(fontsize=8)
    figure.suptitle(_title(rows), fontsize=10)
    return save(figure, path)


def _ratio_colours(rows: pandas.DataFrame) -> dict[float, tuple[float, ...]]:
    """A colour of viridis for each keep ratio, from the largest on."""
    ratios = sorted(rows[RATIO].unique(), reverse=True)
    viridis = matplotlib.colormaps["viridis"]
    last = max(1, len(ratios) - 1)
    return {ratio: viridis(index / last) for index, ratio in enumerate(ratios)}


def _draw_points(
    axes: Axes, rows: pandas.DataFrame, colours: dict[float, tuple[float, ...]]
) -> None:
    """Draw one point per layer."""
    for ratio, points in rows.groupby(RATIO, sort=False):
        axes.scatter(
            points[MEASURED],
            points[CERTIFIED],
            s=14,
            color=colours[ratio],
            label=f"{ratio:.3g} kept",
            alpha=0.8,
        )


def _draw_diagonal(axes: Axes, rows: pandas.DataFrame) -> None:
    """Draw where the certificate equals the error, over the range of all points."""
    if len(rows):
        smallest = rows[[MEASURED, CERTIFIED]].min().min()
        largest = rows[CERTIFIED].max()
        axes.plot([smallest, largest], [smallest, largest], "k--", linewidth=1)


def _title(rows: pandas.DataFrame) -> str:
    first = rows.iloc[0]
    return (
        f"{literal(first['network'])} on {literal(first['dataset'])}: 95th percentiles by layer, "
        f"|S| = {first['sample_size']}"
    )
