"""What the runs of a sweep found, together: one table, one summary, one plot."""

import json
from pathlib import Path

import pandas

from experiment.config.sweeps import Combination, Sweep, plain
from experiment.config.yaml_syntax import dump
from experiment.core.files import write_whole
from experiment.core.text import visible
from experiment.reporting.plots.sweep import sweep_accuracy_vs_sparsity
from experiment.reporting.run_files import PLOT, SUMMARY, SWEEP_RUNS, summary_of
from experiment.reporting.summary_text import summary_text
from experiment.reporting.tables import RESULTS, load_results

Found = list[tuple[Combination, Path, pandas.DataFrame]]  # runs with results: where, and these


def collect(sweep: Sweep, runs: list[Path], directory: Path) -> tuple[str, Path]:
    """Write results.csv, summary.csv, config.yaml, runs.json and the plot of a sweep.

    Args:
        sweep: what was run.
        runs: the directory of each combination. Those without results are left out.
        directory: where the files go.

    Returns:
        The summary as text for people, and the path of the plot.
    """
    write_whole(directory / "config.yaml", dump(sweep.values))
    labels = [visible(combination.label) for combination in sweep.combinations]
    names = {label: run.name for label, run in zip(labels, runs)}
    write_whole(directory / SWEEP_RUNS, json.dumps(names, indent=1) + "\n")
    found = _load(sweep, runs)
    if not found:
        return "no run of the sweep has a result", directory
    write_whole(directory / RESULTS, _all_results(found).to_csv(index=False))
    summary = _all_summaries(found)
    write_whole(directory / SUMMARY, summary.to_csv(index=False))
    labelled = [(combination.label, rows) for combination, _, rows in found]
    plot = sweep_accuracy_vs_sparsity(labelled, directory / PLOT)
    return summary_text(summary), plot


def _load(sweep: Sweep, runs: list[Path]) -> Found:
    """The results of the runs that have any."""
    loaded = [
        (combination, run, load_results(run))
        for combination, run in zip(sweep.combinations, runs)
        if (run / RESULTS).exists()
    ]
    return [one for one in loaded if len(one[2])]


def _all_results(found: Found) -> pandas.DataFrame:
    tables = [_with_swept_values(rows, combination) for combination, _, rows in found]
    return pandas.concat(tables, ignore_index=True)


def _all_summaries(found: Found) -> pandas.DataFrame:
    summaries = []
    for combination, run, rows in found:
        summary = summary_of(rows, run, combination.config.pruning.commensurate_margin)
        summaries.append(_with_swept_values(summary, combination))
    return pandas.concat(summaries, ignore_index=True)


def _with_swept_values(table: pandas.DataFrame, combination: Combination) -> pandas.DataFrame:
    """The table with a column for each swept key in front, named by its key path.

    A column of the table that has the same name is replaced.
    """
    values = {
        visible(key): value if isinstance(value, int | float | None) else plain(value)
        for key, value in combination.settings.items()
    }
    swept = pandas.DataFrame(values, index=table.index)
    others = table.drop(columns=[key for key in values if key in table])
    return pandas.concat([swept, others], axis="columns")
