"""Dataclasses whose fields are the columns of a table, each with its meaning."""

from dataclasses import Field, field, fields
from typing import Any


def column(meaning: str) -> Any:
    """A field that is a column, with its meaning for the documentation."""
    return field(metadata={"meaning": meaning})


def as_dict(record: Any) -> dict[str, Any]:
    """The values of a record by name, not copied as `dataclasses.asdict` does, which takes long."""
    return dict(vars(record))


def columns(record: type) -> dict[str, Field]:
    """The columns of a kind of record by name, in their order."""
    return {field.name: field for field in fields(record)}
