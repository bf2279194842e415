"""What all runs of a sweep found, together: one table, one summary, one plot."""

from pathlib import Path

import pandas
import yaml

from experiment.config.sweeps import Combination, Sweep, plain
from experiment.core.files import write_whole
from experiment.reporting import plots, summary


def collect(sweep: Sweep, runs: list[Path], directory: Path) -> tuple[str, Path]:
    """Write results.csv, summary.csv, config.yaml and the plot of a sweep whose runs are in the directories `runs`.

    Runs that found nothing are left out. Returns the summary for people, and the path of the plot.
    """
    write_whole(directory / "config.yaml", yaml.safe_dump(sweep.values, sort_keys=False))
    found = [
        (combination, rows)
        for combination, run in zip(sweep.combinations, runs)
        if len(rows := results_of(run))
    ]
    if not found:
        return "no run of the sweep has a result", directory
    tables = [_marked(rows, combination) for combination, rows in found]
    summaries = [
        _marked(
            summary.summarise(rows, combination.config.pruning.commensurate_margin), combination
        )
        for combination, rows in found
    ]
    together = pandas.concat(summaries, ignore_index=True)
    write_whole(
        directory / "results.csv", pandas.concat(tables, ignore_index=True).to_csv(index=False)
    )
    write_whole(directory / "summary.csv", together.to_csv(index=False))
    curves = [(combination.label, rows) for combination, rows in found]
    plot = plots.sweep_accuracy_vs_sparsity(curves, directory / "plots" / "accuracy_vs_sparsity")
    return summary.text(together), plot


def results_of(run: Path) -> pandas.DataFrame:
    """The rows of a run; none if it stopped before it wrote any."""
    path = run / "results.csv"
    return pandas.read_csv(path) if path.exists() else pandas.DataFrame()


def _marked(table: pandas.DataFrame, combination: Combination) -> pandas.DataFrame:
    """The table with a first column for each swept key, named by its key path; it replaces one of that name."""
    values = {
        key: value if isinstance(value, int | float | str | None) else plain(value)
        for key, value in combination.settings.items()
    }
    others = table.drop(columns=[key for key in values if key in table])
    return pandas.concat([pandas.DataFrame(values, index=table.index), others], axis="columns")
