"""The tables of a run: rows are appended as they come, and read again."""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiment.core.columns import as_dict, columns
from experiment.core.errors import UserError
from experiment.core.files import write_whole
from experiment.reporting import csv_files
from experiment.reporting.records import (
    KEY,
    TRAINING_KEY,
    ResultRecord,
    TrainingRecord,
)

if TYPE_CHECKING:
    import pandas

RESULTS = "results.csv"
TRAINING = "training.csv"


class Table:
    """A CSV file of records. A record whose key is already there is not added again."""

    def __init__(self, path: Path, record: type, key: Sequence[str]):
        """Open a table. If there is none, or if it is damaged, begin a new one.

        Args:
            path: of the CSV file.
            record: the dataclass whose fields are the columns.
            key: the columns that identify a row.
        """
        self.path = path
        self.columns = list(columns(record))
        self.key = key
        rows = self._stored_rows()
        self._known = {self._key_of(row) for row in rows or []}
        if rows is None or len(rows) > len(self._known):
            self._write(rows or [])

    def add(self, record: Any) -> None:
        """Append a record, unless there is one with its key."""
        row = as_dict(record)
        key = self._key_of(row)
        if key not in self._known:
            self._known.add(key)
            with self.path.open("a", encoding="utf-8", newline="") as file:
                file.write(self._line(row))

    def add_again(self, record: Any, counted_by: str) -> None:
        """Append a record in place of the row with its key and of later ones by a counting column.

        These rows are of an attempt that was interrupted; `counted_by` is a part of the key.
        """
        row = as_dict(record)
        if self._key_of(row) in self._known:
            others = [name for name in self.key if name != counted_by]
            kept = [
                old
                for old in self._stored_rows() or []
                if any(old[name] != str(row[name]) for name in others)
                or int(old[counted_by]) < row[counted_by]
            ]
            self._write(kept)
        self.add(record)

    def __len__(self) -> int:
        return len(self._known)

    def _write(self, rows: list[dict[str, str]]) -> None:
        """Write the whole file anew; of rows with the same key the first one counts."""
        unique: dict[tuple[str, ...], dict[str, str]] = {}
        for row in rows:
            unique.setdefault(self._key_of(row), row)
        lines = [csv_files.format_row(self.columns)]
        lines += [self._line(row) for row in unique.values()]
        write_whole(self.path, "".join(lines))
        self._known = set(unique)

    def _stored_rows(self) -> list[dict[str, str]] | None:
        """The rows in the file, or None if it is missing or damaged.

        An incomplete last row is removed from the file.
        """
        try:
            text = csv_files.read_text(self.path)
            complete = csv_files.complete_rows(text)
            names, rows = csv_files.parse(complete)
        except (FileNotFoundError, ValueError):
            return None
        if names != self.columns:
            return None
        if complete != text:
            write_whole(self.path, complete)
        return [dict(zip(names, row)) for row in rows]

    def _line(self, row: Mapping[str, Any]) -> str:
        return csv_files.format_row(row[name] for name in self.columns)

    def _key_of(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(str(row[name]) for name in self.key)


def result_table(directory: Path) -> Table:
    """The results of a run: one row per net."""
    return Table(directory / RESULTS, ResultRecord, KEY)


def training_table(directory: Path) -> Table:
    """The trainings of a run: one row per epoch."""
    return Table(directory / TRAINING, TrainingRecord, TRAINING_KEY)


def load_results(directory: str | Path) -> "pandas.DataFrame":
    """The results of a run or a sweep, one row per net.

    Args:
        directory: where `results.csv` is.

    Returns:
        The columns of `experiment.reporting.records.ResultRecord`. A sweep has one more for each
        swept key, before them.

    Raises:
        UserError: if there are no results, or the file is not a table of results.

    Example:
        >>> rows = experiment.load_results("results/small/0a1b2c3d4e")
        >>> rows[["method", "prune_ratio", "test_accuracy"]]
    """
    import pandas

    if not isinstance(directory, str | os.PathLike):
        raise UserError(f"load_results needs the directory of a run or a sweep, not {directory!r}")
    if Path(directory).is_file():
        raise UserError(f"{directory}: is a file; give the directory that holds it")
    if not Path(directory).exists():
        raise UserError(f"{directory}: no such directory")
    path = Path(directory) / RESULTS
    types = {name: column.type for name, column in columns(ResultRecord).items()}
    types["note"] = str
    try:
        text = csv_files.complete_rows(csv_files.read_text(path))
        csv_files.parse(text)  # pandas would take a value too many for an index
        rows = pandas.read_csv(
            io.StringIO(text, newline=""),
            engine="python",  # whose floats have the bits that were written
            dtype=types,
            keep_default_na=False,  # a method may be called NA
            na_values=[""],
        )
    except FileNotFoundError:
        raise UserError(f"{directory}: has no {RESULTS}, which a run or a sweep writes") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path}: is not a table of results: {error}") from None
    missing = [name for name in types if name not in rows]
    if missing:
        raise UserError(f"{path}: is not a table of results: it has no column {missing[0]}")
    swept = [name for name in rows if name not in types]
    return rows.drop_duplicates([*swept, *KEY], ignore_index=True)
