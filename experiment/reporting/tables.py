"""The tables of a run: rows are appended as they come, and read again."""

import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiment.core.columns import as_dict, columns
from experiment.core.errors import UserError
from experiment.core.files import append, remove, write_whole
from experiment.core.text import shown
from experiment.reporting import csv_files
from experiment.reporting.records import (
    KEY,
    CorruptionRecord,
    FailureRecord,
    HoldoutRecord,
    LayerRecord,
    ResultRecord,
    TrainingRecord,
)

if TYPE_CHECKING:
    import pandas

RESULTS = "results.csv"
TRAINING = "training.csv"
FAILURES = "failures.csv"
LAYERS = "layers.csv"
HOLDOUT = "holdout.csv"
CORRUPTIONS = "corruptions.csv"


class Table:
    """A CSV file of records, which is begun anew whenever a run starts."""

    def __init__(self, path: Path, record: type):
        """A table of records of that dataclass, whose fields are the columns; nothing is written.

        What the file holds stays there until `rewrite` is called.
        """
        self.path = path
        self.columns = list(columns(record))
        self._count = 0

    def rewrite(self, records: Sequence[Any]) -> None:
        """Write the file with these records and no others."""
        self._write([as_dict(record) for record in records])

    def delete(self) -> None:
        """Delete the file, if there is one."""
        remove(self.path)
        self._count = 0

    def add(self, *records: Any) -> None:
        """Append records, all of them at once."""
        append(self.path, "".join(self._line(as_dict(record)) for record in records))
        self._count += len(records)

    def remove(self, matches: Callable[[Mapping[str, str]], bool]) -> None:
        """Remove the rows that match; their values are given as the text in the file."""
        self._write([row for row in self._rows() if not matches(row)])

    def sort(self, rank: Callable[[Mapping[str, str]], Any]) -> None:
        """Put the rows in the order of a rank, which is given their values as text."""
        self._write(sorted(self._rows(), key=rank))

    def __len__(self) -> int:
        return self._count

    def _rows(self) -> list[dict[str, str]]:
        names, rows = csv_files.parse(csv_files.complete_rows(csv_files.read_text(self.path)))
        return [dict(zip(names, row)) for row in rows]

    def _write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        lines = [csv_files.format_row(self.columns), *map(self._line, rows)]
        write_whole(self.path, "".join(lines))
        self._count = len(rows)

    def _line(self, row: Mapping[str, Any]) -> str:
        return csv_files.format_row(row[name] for name in self.columns)


def result_table(directory: Path) -> Table:
    """The results of a run: one row per net."""
    return Table(directory / RESULTS, ResultRecord)


def training_table(directory: Path) -> Table:
    """The trainings of a run: one row per epoch."""
    return Table(directory / TRAINING, TrainingRecord)


def layer_table(directory: Path) -> Table:
    """What the prunings of a run have left of each layer: one row per net and layer."""
    return Table(directory / LAYERS, LayerRecord)


def holdout_table(directory: Path) -> Table:
    """The tests of a run's pruned nets on images set aside: one row per net."""
    return Table(directory / HOLDOUT, HoldoutRecord)


def corruption_table(directory: Path) -> Table:
    """What the nets of a run can do on corrupted images: one row per net and corruption."""
    return Table(directory / CORRUPTIONS, CorruptionRecord)


def failure_table(directory: Path) -> Table:
    """What has failed in a run, since it was started: one row per task. No file if nothing has."""
    return Table(directory / FAILURES, FailureRecord)


def load_training(directory: Path) -> "pandas.DataFrame":
    """The epochs of a run, one row each. Raises UserError if the file is not a table of epochs."""
    return _loaded(directory / TRAINING, TrainingRecord)


def load_layers(directory: Path) -> "pandas.DataFrame":
    """The layers of a run's pruned nets. Raises UserError if the file is not a table of layers."""
    rows = _loaded(directory / LAYERS, LayerRecord)
    return rows.assign(layer=rows["layer"].fillna(""))  # the name of a net that is itself a layer


def load_holdout(directory: Path) -> "pandas.DataFrame":
    """The tests of a run's pruned nets; no rows if there are none. Raises UserError likewise."""
    return _loaded(directory / HOLDOUT, HoldoutRecord)


def load_corruptions(directory: Path) -> "pandas.DataFrame":
    """What a run's nets can do on corrupted images, none if it was not to be measured.

    Raises UserError if the file is not such a table.
    """
    return _loaded(directory / CORRUPTIONS, CorruptionRecord)


def _loaded(path: Path, record: type) -> "pandas.DataFrame":
    """The complete rows of a table; none if it is not there. Raises UserError for another file."""
    import pandas

    types = {
        name: column.type for name, column in columns(record).items() if column.type in (str, int)
    }
    try:
        text = csv_files.complete_rows(csv_files.read_text(path))
        csv_files.parse(text)
        rows = pandas.read_csv(
            io.StringIO(text), dtype=types, keep_default_na=False, na_values=[""]
        )
    except FileNotFoundError:
        return pandas.DataFrame(columns=list(columns(record)))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a table: {error}") from None
    for name in columns(record):
        if name not in rows:
            raise UserError(f"{path}: has no column {name}")
    return rows


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
    types = [*columns(ResultRecord)]
    rows = read_results(directory)
    missing = [name for name in types if name not in rows]
    if missing:
        path = Path(directory) / RESULTS
        raise UserError(f"{path}: is not a table of results: it has no column {missing[0]}")
    swept = [name for name in rows if name not in types]
    return rows.drop_duplicates([*swept, "network", "dataset", *KEY], ignore_index=True)


def read_results(directory: str | Path) -> "pandas.DataFrame":
    """The rows of `results.csv` in a directory with the columns that it has, whatever these are.

    Raises:
        UserError: if there are no results, or the file is not a table.
    """
    import pandas

    if not isinstance(directory, str | os.PathLike):
        raise UserError(
            f"load_results needs the directory of a run or a sweep, not {shown(directory)}"
        )
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
    return rows
