"""The tables of a run: rows are appended as they come, and read again."""

import csv
import io
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiment.core.errors import UserError
from experiment.core.files import write_whole
from experiment.reporting.records import (
    KEY,
    TRAINING_KEY,
    ResultRecord,
    TrainingRecord,
    columns,
)

if TYPE_CHECKING:
    import pandas

RESULTS = "results.csv"
TRAINING = "training.csv"


class Table:
    """A CSV file of records; a row whose key is there already is not added again."""

    def __init__(self, path: Path, record: type, key: tuple[str, ...]):
        """Open the table, or begin a new one if there is none or if it is damaged."""
        self.path = path
        self.names = list(columns(record))
        self.key = key
        known = self._known_keys() if path.exists() else None
        if known is None:
            write_whole(path, ",".join(self.names) + "\n")
        self._known = known or set()

    def add(self, record: Any) -> None:
        """Append a record."""
        row = asdict(record)
        key = self._key_of(row)
        if key not in self._known:
            self._known.add(key)
            line = io.StringIO()
            csv.writer(line, lineterminator="\n").writerow([row[name] for name in self.names])
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line.getvalue())

    def __len__(self) -> int:
        return len(self._known)

    def _known_keys(self) -> set[tuple[str, ...]] | None:
        """The keys of the rows that are there; None if the file is damaged."""
        try:
            whole, newline, partial = self.path.read_text(encoding="utf-8").rpartition("\n")
        except ValueError:
            return None
        if partial:  # the process died while it wrote this line
            write_whole(self.path, whole + newline)
        rows = list(csv.reader(io.StringIO(whole)))
        if not rows or rows[0] != self.names:
            return None
        if any(len(row) != len(self.names) for row in rows):
            return None
        return {self._key_of(dict(zip(self.names, row))) for row in rows[1:]}

    def _key_of(self, row: dict[str, Any]) -> tuple[str, ...]:
        return tuple(str(row[name]) for name in self.key)


def result_table(directory: Path) -> Table:
    """The results of a run: a row for each net."""
    return Table(directory / RESULTS, ResultRecord, KEY)


def training_table(directory: Path) -> Table:
    """The trainings of a run: a row for each epoch."""
    return Table(directory / TRAINING, TrainingRecord, TRAINING_KEY)


def load_results(directory: str | Path) -> "pandas.DataFrame":
    """The results of a run or a sweep, a row for each net.

    Args:
        directory: where the run has written its `results.csv`.

    Returns:
        The columns of `experiment.reporting.records.ResultRecord`; for a sweep, after one for
        each swept key.

    Raises:
        UserError: if there are none, or the file is not a table of results.

    Example:
        >>> rows = experiment.load_results("results/small/0a1b2c3d4e")
        >>> rows[["method", "prune_ratio", "test_accuracy"]]
    """
    import pandas

    path = Path(directory) / RESULTS
    names = columns(ResultRecord)
    texts = {name: str for name, field in names.items() if field.type in (str, str | None)}
    try:
        whole_lines, newline, _ = path.read_text(encoding="utf-8").rpartition("\n")
        rows = pandas.read_csv(io.StringIO(whole_lines + newline), dtype=texts)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: results cannot be loaded: {error}") from None
    missing = [name for name in names if name not in rows]
    if missing:
        raise UserError(f"{path}: is not a table of results: it has no column {missing[0]}")
    return rows
