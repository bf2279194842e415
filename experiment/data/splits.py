"""What an experiment sees of its data: training, validation and test images, and the sample S."""

from dataclasses import dataclass

import torch
from torch import Tensor

from experiment.config import Dataset as DatasetConfig
from experiment.data.dataset import Dataset, TensorSplit
from experiment.errors import UserError
from experiment.registry import DATASETS
from experiment.seeding import Stream

SAMPLE_BATCH = 32


@dataclass(frozen=True)
class Data:
    """The three splits of an experiment."""

    train: TensorSplit
    validation: TensorSplit
    test: TensorSplit
    input_shape: tuple[int, int, int]
    num_classes: int

    def sample(self, size: int, stream: Stream) -> list[tuple[Tensor, Tensor]]:
        """S: `size` images of the validation split, at most half of it, without variations, in batches."""
        chosen = stream.permutation(len(self.validation))[: min(size, largest_sample(len(self.validation)))]
        return list(self.validation.subset(chosen).batches(SAMPLE_BATCH))


def largest_sample(num_validation: int) -> int:
    """S takes at most half of the validation split."""
    return max(1, num_validation // 2)


def num_validation(config: DatasetConfig, num_train: int) -> int:
    """How many of the training images are set aside."""
    count = round(config.validation_fraction * num_train)
    if not 2 <= count < num_train:
        raise UserError(f"dataset.validation_fraction: {config.validation_fraction} of {num_train} training images "
                        f"leaves {count} for validation; there must be at least 2, and some to train on")
    return count


def open_dataset(config: DatasetConfig) -> Dataset:
    """The configured data set, nothing of it read yet."""
    return DATASETS.build(config.name, config.options)


def load_data(config: DatasetConfig, stream: Stream, device: torch.device | str = "cpu") -> Data:
    """Load a data set and set a seeded share of its training images aside for validation."""
    dataset = open_dataset(config)
    splits, shape = dataset.load(), dataset.shape()
    count = num_validation(config, len(splits.train))
    order = stream.child("validation split").permutation(len(splits.train))
    validation, train = order[:count].sort().values, order[count:].sort().values
    return Data(splits.train.subset(train).to(device), splits.train.subset(validation).to(device),
                splits.test.to(device), shape.input_shape, shape.num_classes)
