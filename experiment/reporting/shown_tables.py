"""Tables on the console: as text, CSV or JSON."""

import json
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas

Format = Literal["text", "csv", "json"]
FORMATS: tuple[Format, ...] = ("text", "csv", "json")


def shown_table(table: "pandas.DataFrame", kind: Format) -> str:
    """A table as text for people, or as CSV or JSON for programs.

    In text, numbers have the digits that people read; missing values are empty.
    """
    if kind == "csv":
        return table.to_csv(index=False).rstrip("\n")
    if kind == "json":
        return json.dumps(
            json.loads(table.to_json(orient="records", double_precision=15)), indent=1
        )
    if not len(table):
        return "nothing"
    return table.map(_cell).to_string(index=False)


def _cell(value: Any) -> str:
    if value is None or value != value:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
