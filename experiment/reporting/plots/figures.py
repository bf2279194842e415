"""What all figures share: a row of panels, a title, and saving."""

import io
import warnings
from pathlib import Path

import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiment.core.files import write_whole
from experiment.core.text import short

RESOLUTION = 150  # dots per inch of the PNG
LONGEST_LABEL = 80  # characters


class ShownFigure(Figure):
    """A figure that Jupyter shows, also if pyplot is not in use."""

    def _repr_png_(self) -> bytes:
        return content_of(self, "png")


def figure_with_panels(count: int, panel_width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side, which share their axes. Sizes are in inches."""
    figure = Figure(figsize=(1 + panel_width * count, height), layout="constrained")
    panels = figure.subplots(1, count, sharex=True, sharey=True, squeeze=False)
    return figure, list(panels[0])


def literal(text: str) -> str:
    """The text as a label that matplotlib writes as it is: no mathematics, never left out."""
    escaped = short(text, LONGEST_LABEL).replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped  # legends leave `_x` out


def once_in_legend(axes: Axes, text: str) -> str:
    """The text as a label; one that legends leave out where another artist has it already."""
    label = literal(text)
    return "_" if label in axes.get_legend_handles_labels()[1] else label


def experiment_title(rows: pandas.DataFrame) -> str:
    """Networks and data sets, and what the bands around the curves are."""
    networks = ", ".join(rows["network"].unique())
    datasets = ", ".join(rows["dataset"].unique())
    num_nets = rows["net_seed"].nunique()
    title = literal(f"{networks} on {datasets}")
    if num_nets > 1:
        title += f", mean of {num_nets} nets with a band of one standard deviation"
    return title


def save(figure: Figure, path: Path) -> Path:
    """Write `path`.pdf and `path`.png; return the path of the latter."""
    for suffix in (".pdf", ".png"):
        save_as(figure, path.with_name(path.name + suffix))
    return path.with_name(f"{path.name}.png")


def save_as(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the suffix of the path says."""
    write_whole(path, content_of(figure, path.suffix.removeprefix(".")))


def content_of(figure: Figure, kind: str) -> bytes:
    """The figure as the bytes of a file of some format."""
    content = io.BytesIO()
    with warnings.catch_warnings():
        # Labels that hold letters of a rare script, or that are too long for the figure:
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        warnings.filterwarnings("ignore", "constrained_layout not applied", UserWarning)
        figure.savefig(content, format=kind, dpi=RESOLUTION)
    return content.getvalue()
