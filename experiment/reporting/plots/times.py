"""Where the time of a run went."""

import pandas
from matplotlib.figure import Figure

from experiment.reporting.plots.figures import literal
from experiment.reporting.records import REFERENCE

PHASES = {  # column: label, colour and hatching
    "retrain_seconds": ("training and retraining", "#4c78a8", ""),
    "prune_seconds": ("pruning", "#f58518", "//"),
}


def time_by_phase(rows: pandas.DataFrame) -> Figure:
    """Draw the time that the unpruned nets and each method took, from the rows of results.csv.

    Evaluations are not measured.
    """
    totals = rows.groupby("method", sort=False)[list(PHASES)].sum()
    unit, seconds = _unit(totals.sum(axis=1).max())
    places = range(len(totals))
    figure = Figure(figsize=(7, 1.4 + 0.3 * len(totals)), layout="constrained")
    axes = figure.subplots()
    left = pandas.Series(0.0, index=totals.index)
    for column, (label, colour, hatch) in PHASES.items():
        width = totals[column] / seconds
        axes.barh(places, width, left=left, color=colour, hatch=hatch, label=label)
        left = left + width
    labels = [literal("unpruned" if name == REFERENCE else name) for name in totals.index]
    axes.set_yticks(places, labels)
    axes.invert_yaxis()
    axes.set_xlabel(f"{unit}, all nets together")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", fontsize=8, ncols=len(PHASES))
    return figure


def _unit(seconds: float) -> tuple[str, float]:
    """The unit in which a time is best shown, and its seconds."""
    if seconds < 300:
        return "seconds", 1.0
    return ("minutes", 60.0) if seconds < 3 * 3600 else ("hours", 3600.0)
