"""Results of a suite that were stored earlier, to rank other methods beside them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas

from experiment.core.columns import columns
from experiment.core.errors import UserError
from experiment.core.files import read_file
from experiment.reporting.comparison import RATIO
from experiment.reporting.records import KEY, ResultRecord
from experiment.reporting.summary import AVERAGED
from experiment.reporting.tables import RESULTS, read_results
from experiment.runs.suites import SuiteExperiment

ABOUT = "suite.json"
NEEDED = ("experiment", "network", "dataset", *KEY, RATIO, "retrained", "test_loss", *AVERAGED)


@dataclass(frozen=True)
class StoredResults:
    """The rows of results.csv with a column `experiment` in front, and what they are of."""

    rows: pandas.DataFrame
    experiment_ids: Mapping[str, str]  # run ids of the experiments' files

    def of(self, experiment: SuiteExperiment) -> pandas.DataFrame:
        """The rows of an experiment; none if they are of another version of it."""
        is_usable = not self.is_outdated(experiment)
        return self.rows[(self.rows["experiment"] == experiment.name) & is_usable]

    def is_outdated(self, experiment: SuiteExperiment) -> bool:
        """Whether the experiment may have changed since its results were stored."""
        is_there = (self.rows["experiment"] == experiment.name).any()
        known = self.experiment_ids.get(experiment.name)
        return bool(is_there) and known != experiment.config.run_id()


def load_stored(directory: Path | None) -> StoredResults:
    """What a suite has left in a directory; nothing without a directory.

    Raises:
        UserError: if files are missing or damaged.
    """
    if directory is None:
        return StoredResults(pandas.DataFrame(columns=["experiment", "method"]), {})
    rows = _rows(directory)
    path = directory / ABOUT
    try:
        ids = dict(json.loads(read_file(path))["experiments"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{path}: cannot be read; `python -m experiment suite` writes it") from None
    return StoredResults(rows, ids)


def _rows(directory: Path) -> pandas.DataFrame:
    """The rows of results.csv; columns that there were not yet when it was written are empty."""
    rows = read_results(directory)
    missing = [name for name in NEEDED if name not in rows]
    if missing:
        raise UserError(
            f"{directory / RESULTS}: is not a table of a suite's results: it has no column "
            f"{missing[0]}"
        )
    _require_sound(rows, directory / RESULTS)
    return rows.astype({"experiment": str}).reindex(columns=["experiment", *columns(ResultRecord)])


def _require_sound(rows: pandas.DataFrame, path: Path) -> None:
    """Raise UserError for rows that no suite has written: the first of them is named."""
    mistakes = {
        "names no experiment or no method": (rows[["experiment", "method"]].isna().any(axis=1)),
        "is there twice": rows.duplicated(["experiment", *KEY]),
        "has a test_accuracy that is not from 0 to 1": ~rows["test_accuracy"].between(0, 1),
    }
    for mistake, is_wrong in mistakes.items():
        if is_wrong.any():
            number = int(is_wrong.to_numpy().argmax()) + 1
            raise UserError(f"{path}: row {number} {mistake}")
