"""List runs: what they are about, how far they are, and what they have found.

A run is done, running, failed (the same command tries again what has failed), interrupted (the same
command goes on) or damaged. `measured nets` counts unpruned and pruned ones. `time left` is what
its epochs would take in one process.
"""

import argparse
from typing import TYPE_CHECKING

from experiment.commands._arguments import add_directory, add_format
from experiment.core.console import say

if TYPE_CHECKING:
    from experiment.runs.found import FoundRun


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_directory(parser)
    add_format(parser)


def run(options: argparse.Namespace) -> int:
    from pathlib import Path

    import pandas

    from experiment.core.errors import UserError
    from experiment.reporting.shown_tables import shown_table
    from experiment.runs.found import find_runs

    directory = Path(options.directory)
    runs = find_runs(directory)
    if not runs:
        raise UserError(f"{directory}: holds no run yet")
    rows = []
    for found in runs:
        name = str(found.directory.relative_to(directory))
        try:
            rows.append({"run": name, "state": found.state, **described(found)})
        except UserError:
            rows.append({"run": name, "state": "damaged"})
    columns = dict.fromkeys(key for row in rows for key in row)
    say(shown_table(pandas.DataFrame(rows, columns=list(columns)), options.format))
    return 0


def described(found: "FoundRun") -> dict[str, object]:
    """The columns of a run. Raises UserError if its files are damaged."""
    from experiment.reporting.board import duration
    from experiment.reporting.records import REFERENCE

    config = found.config
    row: dict[str, object] = {
        "measured nets": f"{found.num_rows}/{found.num_expected}",
        "time left": "",
        "network": config.network.name,
        "data": config.dataset.name,
        "schedule": config.pruning.schedule,
        "methods": ", ".join(methods_of(found)),
        "unpruned": None,
        "best at commensurate accuracy": "",
    }
    if found.state != "done":
        seconds = found.seconds_left()
        row["time left"] = "" if seconds is None else duration(seconds)
    if found.num_rows:
        rows = found.results
        row["unpruned"] = f"{rows[rows['method'] == REFERENCE]['test_accuracy'].mean():.1%}"
        row["best at commensurate accuracy"] = best(found)
    return row


def methods_of(found: "FoundRun") -> list[str]:
    """The methods of a run, with their options where there are results of them."""
    labels = found.results["method"].unique().tolist() if found.num_rows else []
    methods = []
    for method in found.config.pruning.methods:
        name = method.name
        fitting = (one for one in labels if one == name or one.startswith(f"{name}("))
        methods.append(next((one for one in fitting if one not in methods), name))
    return methods


def best(found: "FoundRun") -> str:
    """The method that can be pruned most at commensurate accuracy, and how far, on average."""
    summary = found.summary
    if not len(summary):
        return ""
    row = summary.loc[summary["prune_ratio_chosen_on_test_mean"].idxmax()]
    return f"{row['method']} {row['prune_ratio_chosen_on_test_mean']:.1%}"
