"""The scores of a suite: a row for each method, with its interval and its rank."""

from collections.abc import Mapping
from pathlib import Path

import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiment.reporting.plots.colours import method_colours
from experiment.reporting.plots.figures import literal, save
from experiment.reporting.suites.standing import rank_text

STORED, NEW = "o", "D"  # markers


def draw_rankings(tables: Mapping[str, pandas.DataFrame], path: Path) -> Path:
    """Draw the tables that `ranking` returns, by title, and write `path`.pdf and `path`.png.

    Returns the path of the latter.
    """
    heights = [len(table) for table in tables.values()]
    figure = Figure(figsize=(8, 1 + 0.3 * sum(heights) + 0.6 * len(tables)), layout="constrained")
    panels = figure.subplots(len(tables), 1, squeeze=False, height_ratios=heights)
    for axes, (title, table) in zip(panels[:, 0], tables.items()):
        _draw(axes, table)
        axes.set_title(literal(title), fontsize=10)
    panels[-1, 0].set_xlabel("score: mean difference to the unpruned net (points), 95% interval")
    return save(figure, path)


def _draw(axes: Axes, table: pandas.DataFrame) -> None:
    colours = method_colours(table["method"])
    for place, row in enumerate(table.to_dict("records")):
        colour = colours[row["method"]]
        if not pandas.isna(row["score_from"]):
            axes.plot([row["score_from"], row["score_to"]], [place, place], color=colour, lw=2)
        marker = STORED if row["results"] == "stored" else NEW
        axes.plot(row["score"], place, marker, color=colour)
    labels = [
        literal(f"{row['method']}  (rank {rank_text(row)})") for row in table.to_dict("records")
    ]
    axes.set_yticks(range(len(table)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
