"""Numbers as people read them, and tables as JSON can hold them."""

import math
from typing import Any

import pandas

MISSING = "none"


def percent(mean: float, deviation: float = math.nan) -> str:
    """A share, with its standard deviation if there is one: `97.8% ± 0.5`."""
    if pandas.isna(mean):
        return MISSING
    spread = "" if pandas.isna(deviation) else f" ± {100 * deviation:.1f}"
    return f"{100 * mean:.1f}%{spread}"


def without_nan(table: pandas.DataFrame) -> list[list[Any]]:
    """The rows of a table as plain values; None for what JSON has no number for."""
    return [[_plain(value) for value in row] for row in table.itertuples(index=False, name=None)]


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):  # a number of numpy
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return None if value is pandas.NA else value
