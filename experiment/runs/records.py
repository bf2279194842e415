"""What tasks write down besides nets: plain values, which the store keeps as JSON."""

from dataclasses import dataclass
from typing import Any

from experiment.core.columns import as_dict
from experiment.training.records import EpochRecord


@dataclass(frozen=True, kw_only=True)
class TrainedRecord:
    """All epochs of a training, those before it was continued included."""

    epochs: list[EpochRecord]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class PrunedRecord:
    """The size that a pruning has achieved, and what is wrong with the net."""

    keep_ratio: float
    flop_keep_ratio: float
    seconds: float
    evaluations: int  # how many budgets the calibration tried
    size_note: str | None
    empty_layers: list[str]
    constant_before: bool


@dataclass(frozen=True, kw_only=True)
class EvaluatedRecord:
    """What a net can do, by the names of the columns of results.csv."""

    validation_accuracy: float
    test_accuracy: float
    test_top5: float
    test_loss: float
    constant_output: bool


Record = TrainedRecord | PrunedRecord | EvaluatedRecord


def to_json(record: Record) -> dict[str, Any]:
    """The values of a record, as JSON can hold them."""
    found = as_dict(record)
    if isinstance(record, TrainedRecord):
        found["epochs"] = [as_dict(epoch) for epoch in record.epochs]
    return found


def from_json(values: dict[str, Any]) -> Record:
    """The inverse of `to_json`. Raises TypeError or KeyError for values of no record."""
    if "epochs" in values:
        epochs = [EpochRecord(**epoch) for epoch in values["epochs"]]
        return TrainedRecord(epochs=epochs, seconds=values["seconds"])
    if "keep_ratio" in values:
        return PrunedRecord(**values)
    return EvaluatedRecord(**values)
