"""What tasks write down besides nets: plain values, which the store keeps as JSON."""

from dataclasses import dataclass
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin

from experiment.core.columns import as_dict, columns
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
    # The share of the weights of each prunable layer that is left; earlier versions kept none.
    kept_by_layer: dict[str, float] | None = None
    keep_ratio_requested: float | None = None  # if the method decided it


@dataclass(frozen=True, kw_only=True)
class EvaluatedRecord:
    """What a net can do, by the names of the columns of results.csv."""

    validation_accuracy: float
    test_accuracy: float
    test_top5: float
    test_loss: float
    constant_output: bool
    # Of the validation images set aside, if any are: the predicted class, and whether it is right.
    holdout_classes: list[int] | None = None
    holdout_correct: list[bool] | None = None


@dataclass(frozen=True, kw_only=True)
class CorruptedRecord:
    """What a net can do on corrupted images, by the names of the columns of corruptions.csv."""

    corruption: str
    severity: int
    accuracy: float
    loss: float


Record = TrainedRecord | PrunedRecord | EvaluatedRecord | CorruptedRecord


def to_json(record: Record) -> dict[str, Any]:
    """The values of a record, as JSON can hold them."""
    found = as_dict(record)
    if isinstance(record, TrainedRecord):
        found["epochs"] = [as_dict(epoch) for epoch in record.epochs]
    return found


def from_json(values: dict[str, Any]) -> Record:
    """The inverse of `to_json`. Raises TypeError or KeyError for values of no record."""
    if "epochs" in values:
        epochs = [_checked(EpochRecord(**epoch)) for epoch in values["epochs"]]
        return _checked(TrainedRecord(epochs=epochs, seconds=values["seconds"]))
    if "keep_ratio" in values:
        return _checked(PrunedRecord(**values))
    if "corruption" in values:
        return _checked(CorruptedRecord(**values))
    return _checked(EvaluatedRecord(**values))


Checked = TypeVar("Checked", Record, EpochRecord)


def _checked(record: Checked) -> Checked:
    """The same record. Raises TypeError unless its values are of the types of its fields."""
    for name, field in columns(type(record)).items():
        if not _is(getattr(record, name), field.type):
            raise TypeError(f"{name} must be of type {field.type}")
    return record


def _is(value: Any, kind: Any) -> bool:
    if kind is float:
        return type(value) in (int, float)
    if get_origin(kind) is UnionType:
        return any(_is(value, one) for one in get_args(kind))
    if get_origin(kind) is list:
        return type(value) is list and all(_is(one, get_args(kind)[0]) for one in value)
    if get_origin(kind) is dict:
        of_keys, of_values = get_args(kind)
        return type(value) is dict and all(
            _is(key, of_keys) and _is(one, of_values) for key, one in value.items()
        )
    return type(value) is kind
