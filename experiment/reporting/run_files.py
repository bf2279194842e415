"""The files that a run writes at its end: the summary and the plot of its results."""

from pathlib import Path
from typing import TYPE_CHECKING

from experiment.core.files import remove, write_whole

if TYPE_CHECKING:
    import pandas

# What only the end of a run needs is imported there: a dry run needs neither pandas nor matplotlib.

PLOT = Path("plots", "accuracy_vs_sparsity")  # the main one
SUMMARY = "summary.csv"
CORRUPTION_SUMMARY = "corruption_summary.csv"
PRUNE_POTENTIAL = Path("plots", "prune_potential")
REPORT = "report.html"
SWEEP_RUNS = "runs.json"  # of a sweep: the names of its runs' directories, by what was swept


def write_summary(rows: "pandas.DataFrame", directory: Path, margin: float) -> str:
    """Write summary.csv, from the rows of results.csv and the tests of holdout.csv.

    Returns it as text for people, empty if nothing was pruned.
    """
    from experiment.reporting.summary_text import summary_text

    summary = summary_of(rows, directory, margin)
    write_whole(directory / SUMMARY, summary.to_csv(index=False))
    return summary_text(summary) if len(summary) else ""


def summary_of(rows: "pandas.DataFrame", directory: Path, margin: float) -> "pandas.DataFrame":
    """What `summarise` and `with_guarantees` say of a run, whose rows of results.csv these are."""
    from experiment.reporting.guaranteed import with_guarantees
    from experiment.reporting.summary import summarise
    from experiment.reporting.tables import load_holdout

    return with_guarantees(summarise(rows, margin), rows, load_holdout(directory))


def write_plots(rows: "pandas.DataFrame", directory: Path) -> Path:
    """Draw the figures of a run, from the rows of results.csv, and of its other tables.

    Returns the path of the main one.
    """
    from experiment.reporting.plots.run import draw_all
    from experiment.reporting.tables import load_holdout, load_layers, load_training

    return draw_all(
        rows,
        load_training(directory),
        load_layers(directory),
        load_holdout(directory),
        directory / PLOT.parent,
    )


def write_corruptions(rows: "pandas.DataFrame", directory: Path, margin: float) -> str:
    """Write corruption_summary.csv and its figure, from corruptions.csv and rows of results.csv.

    Returns the main rows as text for people. If no pruned net was measured on corrupted images,
    there are no such files afterwards, and no text.
    """
    from experiment.reporting.corruption_summary import summarise_corruptions
    from experiment.reporting.plots.figures import save
    from experiment.reporting.plots.prune_potential import prune_potential
    from experiment.reporting.summary_text import corruption_text
    from experiment.reporting.tables import load_corruptions

    figure = directory / PRUNE_POTENTIAL
    summary = summarise_corruptions(rows, load_corruptions(directory), margin)
    if not len(summary):
        for path in (directory / CORRUPTION_SUMMARY, *map(figure.with_suffix, (".png", ".pdf"))):
            remove(path)
        return ""
    write_whole(directory / CORRUPTION_SUMMARY, summary.to_csv(index=False))
    save(prune_potential(summary), figure)
    return corruption_text(summary)
