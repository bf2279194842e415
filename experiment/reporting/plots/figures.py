"""What all figures share: a row of panels, a title, and saving."""

import io
from pathlib import Path

import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiment.core.files import write_whole

RESOLUTION = 150  # dots per inch of the PNG


def figure_with_panels(count: int, panel_width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side, which share their axes. Sizes are in inches."""
    figure = Figure(figsize=(1 + panel_width * count, height), layout="constrained")
    panels = figure.subplots(1, count, sharex=True, sharey=True, squeeze=False)
    return figure, list(panels[0])


def experiment_title(rows: pandas.DataFrame) -> str:
    """Networks and data sets, and what the bands around the curves are."""
    networks = ", ".join(rows["network"].unique())
    datasets = ", ".join(rows["dataset"].unique())
    num_nets = rows["net_seed"].nunique()
    title = f"{networks} on {datasets}"
    if num_nets > 1:
        title += f", mean of {num_nets} nets with a band of one standard deviation"
    return title


def save(figure: Figure, path: Path) -> Path:
    """Write `path`.pdf and `path`.png; return the path of the latter."""
    for suffix in (".pdf", ".png"):
        content = io.BytesIO()
        figure.savefig(content, format=suffix.removeprefix("."), dpi=RESOLUTION)
        write_whole(path.with_suffix(suffix), content.getvalue())
    return path.with_suffix(".png")
