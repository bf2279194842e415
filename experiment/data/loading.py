"""The data of an experiment: training, validation and test images, and the sample S."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from experiment.config.schema import DatasetPart
from experiment.core.errors import StorageError, UserError, one_line
from experiment.core.own_code import exits_as_errors, place
from experiment.core.registry import DATASETS
from experiment.core.seeding import Stream
from experiment.data.data_memory import moving, num_bytes, require_memory
from experiment.data.dataset import Dataset, Shape, Splits
from experiment.data.split import Split
from experiment.data.tensor_split import TensorSplit

SAMPLE_BATCH = 32

Returned = TypeVar("Returned")


@dataclass(frozen=True)
class Data:
    """The three splits of an experiment."""

    train: Split
    validation: Split
    test: Split
    input_shape: tuple[int, int, int]
    num_classes: int
    note: str | None = None  # for the log

    def divided(self, stream: Stream) -> tuple["Data", Split]:
        """The same with half of the validation images, and the other half in random order."""
        order = stream.permutation(len(self.validation))
        half = num_choosing(len(order), True)
        choosing = self.validation.subset(order[:half].sort().values)
        return replace(self, validation=choosing), self.validation.subset(order[half:])

    def sample(self, size: int, stream: Stream) -> list[tuple[Tensor, Tensor]]:
        """The sample S: `size` validation images in batches."""
        return list(self.sample_and_rest(size, stream)[0].batches(SAMPLE_BATCH))

    def sample_and_rest(self, size: int, stream: Stream) -> tuple[Split, Split]:
        """The images of the sample S, and the other validation images in random order."""
        order = stream.permutation(len(self.validation))
        return self.validation.subset(order[:size]), self.validation.subset(order[size:])


def allowed_sample_size(asked: int, num_validation: int) -> int:
    """The size of S: as asked for, but at most half of the validation split."""
    return min(asked, max(1, num_validation // 2))


def num_choosing(num_images: int, holdout: bool) -> int:
    """How many validation images are left for choosing, S included; see `Data.divided`."""
    return num_images // 2 if holdout else num_images


def num_validation(config: DatasetPart, num_train: int) -> int:
    """How many of the training images are set aside."""
    count = round(config.validation_fraction * num_train)
    if not 2 <= count < num_train:
        raise UserError(
            f"dataset.validation_fraction: {config.validation_fraction} of {num_train} training "
            f"images leaves {count} for validation; there must be at least 2, and some to train on"
        )
    return count


def shape_of(config: DatasetPart) -> Shape:
    """The shape of the configured data set. Raises UserError if that cannot be told."""
    return _shape(config, open_dataset(config))


def _shape(config: DatasetPart, dataset: Dataset) -> Shape:
    with _calling(config, "shape"):
        return _of_kind(config, "shape", dataset.shape(), Shape)


def _splits(config: DatasetPart, dataset: Dataset) -> Splits:
    with _calling(config, "load"):
        return _of_kind(config, "load", dataset.load(), Splits)


def _of_kind(config: DatasetPart, method: str, value: Any, kind: type[Returned]) -> Returned:
    """What a method of a data set has returned. Raises UserError if it is something else."""
    if not isinstance(value, kind):
        raise UserError(
            f"dataset {config.name}: {method}() must return an "
            f"experiment.data.dataset.{kind.__name__}, not a {type(value).__name__}"
        )
    return value


@contextlib.contextmanager
def _calling(config: DatasetPart, method: str) -> Iterator[None]:
    """A block that calls a method of a data set, whose failure is a UserError."""
    try:
        with exits_as_errors():
            yield
    except (UserError, StorageError):
        raise
    except Exception as error:  # it may be a person's own code
        raise UserError(
            f"dataset {config.name}: {method}() fails: {one_line(error)}{place(error)}"
        ) from error


def open_dataset(config: DatasetPart) -> Dataset:
    """The configured data set, nothing of it read yet. Raises UserError if it is not a data set."""
    dataset = DATASETS.build(config.name, config.options)
    missing = [name for name in ("shape", "load") if not callable(getattr(dataset, name, None))]
    if missing:
        raise UserError(
            f"dataset {config.name}: a {type(dataset).__name__} has no method "
            f"{' and no '.join(missing)}; derive it from experiment.data.dataset.Dataset"
        )
    return dataset


def load_data(config: DatasetPart, stream: Stream, device: torch.device | str = "cpu") -> Data:
    """Load a data set and set a random share of its training images aside for validation."""
    dataset = open_dataset(config)
    splits = _splits(config, dataset)
    shape = _shape(config, dataset)
    _require_agreement(config.name, splits, shape)
    count = num_validation(config, len(splits.train))
    order = stream.child("validation split").permutation(len(splits.train))
    validation = order[:count].sort().values
    train = order[count:].sort().values
    require_memory(config.name, num_bytes(splits.train))  # `subset` copies them
    with moving(config.name, device, num_bytes(splits.train) + num_bytes(splits.test)):
        return Data(
            train=splits.train.subset(train).to(device),
            validation=splits.train.subset(validation).to(device),
            test=splits.test.to(device),
            input_shape=shape.input_shape,
            num_classes=shape.num_classes,
            note=shape.note,
        )


def _require_agreement(name: str, splits: Splits, shape: Shape) -> None:
    """Raise UserError unless the images are what `shape()` says."""
    _require_agreeing_split(name, "training", splits.train, shape)
    _require_agreeing_split(name, "test", splits.test, shape)
    if len(splits.train) != shape.num_train:
        raise UserError(
            f"dataset {name}: shape() promises {shape.num_train} training images, but load() "
            f"returns {len(splits.train)}"
        )


def _require_agreeing_split(name: str, split_name: str, split: Split, shape: Shape) -> None:
    if not isinstance(split, Split):
        raise UserError(
            f"dataset {name}: its {split_name} split must be an experiment.data.split.Split, "
            f"not a {type(split).__name__}; experiment.data.dataset.from_tensors makes splits"
        )
    if len(split) == 0:
        raise UserError(f"dataset {name}: there are no {split_name} images")
    images, _ = next(split.subset(torch.arange(1)).batches(1))
    if tuple(images.shape[1:]) != tuple(shape.input_shape):
        raise UserError(
            f"dataset {name}: shape() promises images of {list(shape.input_shape)}, but the "
            f"{split_name} images are {list(images.shape[1:])}"
        )
    if isinstance(split, TensorSplit):
        _require_labels(name, split_name, split.labels, shape.num_classes)


def _require_labels(name: str, split_name: str, labels: Tensor, num_classes: int) -> None:
    smallest = int(labels.min())
    largest = int(labels.max())
    if smallest < 0 or largest >= num_classes:
        raise UserError(
            f"dataset {name}: the {split_name} labels must lie in 0 ... {num_classes - 1}, not in "
            f"{smallest} ... {largest}"
        )
