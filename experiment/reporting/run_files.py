"""The files that a run writes at its end: the summary and the plot of its results."""

from pathlib import Path
from typing import TYPE_CHECKING

from experiment.core.files import write_whole

if TYPE_CHECKING:
    import pandas

# What only the end of a run needs is imported there: a dry run needs neither pandas nor matplotlib.

PLOT = Path("plots", "accuracy_vs_sparsity")
SUMMARY = "summary.csv"
REPORT = "report.html"
SWEEP_RUNS = "runs.json"  # of a sweep: the names of its runs' directories, by what was swept


def write_summary(rows: "pandas.DataFrame", directory: Path, margin: float) -> str:
    """Write summary.csv, from the rows of results.csv.

    Returns it as text for people, empty if nothing was pruned.
    """
    from experiment.reporting.summary import summarise
    from experiment.reporting.summary_text import summary_text

    summary = summarise(rows, margin)
    write_whole(directory / SUMMARY, summary.to_csv(index=False))
    return summary_text(summary) if len(summary) else ""


def write_plot(rows: "pandas.DataFrame", directory: Path) -> Path:
    """Draw accuracy against sparsity, from the rows of results.csv. Returns the plot's path."""
    from experiment.reporting.plots.run import accuracy_vs_sparsity

    return accuracy_vs_sparsity(rows, directory / PLOT)
