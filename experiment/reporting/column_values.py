"""The values of a CSV file's columns, from their texts."""

from collections.abc import Callable
from typing import Any

from experiment.reporting.records import columns


def parse_columns(names: list[str], rows: list[list[str]], record: type) -> dict[str, list[Any]]:
    """The values of each column: of the type that the record declares, else guessed.

    Raises:
        ValueError: if a column of the record is missing or holds a value of another type.
    """
    types = {name: field.type for name, field in columns(record).items()}
    for name in types:
        if name not in names:
            raise ValueError(f"it has no column {name}")
    parsed = {}
    for index, name in enumerate(names):
        texts = [row[index] for row in rows]
        if name not in types:
            parsed[name] = _guessed(texts)
            continue
        try:
            parsed[name] = list(map(PARSERS[types[name]], texts))
        except ValueError as error:
            raise ValueError(f"column {name}: {error}") from None
    return parsed


def _guessed(texts: list[str]) -> list[Any]:
    """The values of a column as numbers or truth values, if all of them are, or else as texts."""
    for parser in (int, _number, _truth_value):
        try:
            return list(map(parser, texts))
        except ValueError:
            pass
    return list(map(_optional, texts))


def _number(text: str) -> float:
    return float(text or "nan")


def _truth_value(text: str) -> bool:
    if text not in ("True", "False"):
        raise ValueError(f"{text!r} is neither True nor False")
    return text == "True"


def _optional(text: str) -> str | None:
    return text or None


PARSERS: dict[Any, Callable[[str], Any]] = {
    str: str,
    int: int,
    float: _number,
    bool: _truth_value,
    str | None: _optional,
}
