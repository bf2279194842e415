"""What a run leaves at its end: the summary and the plot, from the rows of its results."""

from pathlib import Path

from experiment.core.files import write_whole
from experiment.reporting import plots, summary
from experiment.reporting.tables import load_results

PLOT = Path("plots", "accuracy_vs_sparsity")
SUMMARY = "summary.csv"


def write_summary(directory: Path, margin: float) -> str:
    """Write summary.csv; return it as text for people, empty if nothing was pruned."""
    table = summary.summarise(load_results(directory), margin)
    write_whole(directory / SUMMARY, table.to_csv(index=False))
    return summary.text(table) if len(table) else ""


def write_plot(directory: Path) -> Path:
    """Draw accuracy against sparsity; return the path of the plot."""
    return plots.accuracy_vs_sparsity(load_results(directory), directory / PLOT)
