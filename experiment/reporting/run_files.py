"""The files that a run writes at its end: the summary and the plot of its results."""

from pathlib import Path

from experiment.core.files import write_whole
from experiment.reporting.tables import load_results

# What only the end of a run needs is imported there: a dry run needs neither pandas nor matplotlib.

PLOT = Path("plots", "accuracy_vs_sparsity")
SUMMARY = "summary.csv"


def write_summary(directory: Path, margin: float) -> str:
    """Write summary.csv. Returns it as text for people, empty if nothing was pruned."""
    from experiment.reporting.summary import summarise
    from experiment.reporting.summary_text import summary_text

    summary = summarise(load_results(directory), margin)
    write_whole(directory / SUMMARY, summary.to_csv(index=False))
    return summary_text(summary) if len(summary) else ""


def write_plot(directory: Path) -> Path:
    """Draw accuracy against sparsity. Returns the path of the plot."""
    from experiment.reporting.plots.run import accuracy_vs_sparsity

    return accuracy_vs_sparsity(load_results(directory), directory / PLOT)
