"""CSV files of which the last row may be incomplete, since the process died while writing it."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def read_text(path: Path) -> str:
    """The text of a file, with the line ends inside its values as they are.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is not UTF-8.
    """
    return path.read_bytes().decode("utf-8")


def complete_rows(text: str) -> str:
    """The text without a last row that is incomplete: one without a line end outside quotes."""
    length = 0
    complete = 0
    quotes = 0
    for line in io.StringIO(text, newline="\n"):
        length += len(line)
        quotes += line.count('"')  # those inside a value are doubled: no row holds an odd number
        if line.endswith("\n") and quotes % 2 == 0:
            complete = length
    return text[:complete]


def parse(text: str) -> tuple[list[str], list[list[str]]]:
    """The names of the columns, and the rows.

    Raises:
        ValueError: if there is no line, or a row has another number of values than the first.
    """
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise ValueError(str(error)) from None
    if not lines:
        raise ValueError("it is empty")
    names, *rows = lines
    for number, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise ValueError(f"row {number} has {len(row)} values for {len(names)} columns")
    return names, rows


def format_row(values: Iterable[Any]) -> str:
    """A row with its line end. None is an empty value; floats read back to the same bits."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(values)  # quotes \r as well as \n in values
    return line.getvalue().removesuffix("\r\n") + "\n"
