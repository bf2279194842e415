"""What a data set is: its shape and its two splits; and how to make splits from tensors."""

import abc
import functools
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from experiment.core.dependencies import Dependencies
from experiment.core.errors import UserError
from experiment.data.augmentation import UNVARIED, Augmentation
from experiment.data.split import Split
from experiment.data.tensor_split import TensorSplit


@dataclass(frozen=True)
class Shape:
    """What a network and a dry run need to know about a data set."""

    input_shape: tuple[int, int, int]  # channels, height, width of an image as the network sees it
    num_classes: int
    num_train: int
    note: str | None = None  # what a dry run and the log should say about the files
    num_test: int | None = None  # for estimates of time; None if it is not known
    classes: tuple[str, ...] | None = (
        None  # their names in the order of the labels, if they have any
    )


@dataclass(frozen=True)
class Splits:
    """The training and the test images of a data set."""

    train: Split
    test: Split


class Dataset(abc.ABC):
    """A data set. Derive a keyword-only, frozen dataclass from it, whose fields are the options.

    `not_affecting_numbers` names the options that say where the data are or how fast they are read:
    they are not part of the run id. `not_affecting_numbers_if_none` names those that were added
    later, and are no part of it unless they are given.
    """

    not_affecting_numbers: ClassVar[tuple[str, ...]] = ()
    not_affecting_numbers_if_none: ClassVar[tuple[str, ...]] = ()

    def dependencies(self, verify: bool) -> Dependencies:
        """What the images depend on besides the options: the files that they come from.

        Nothing if these cannot be others, since they are published ones, or if they are missing.
        With `verify`, all that they hold counts, otherwise what can be told without reading them.
        """
        return ()

    @abc.abstractmethod
    def shape(self) -> Shape:
        """Its dimensions, found quickly: at best, without reading the images."""

    @abc.abstractmethod
    def load(self) -> Splits:
        """The images. Raises UserError if they cannot be loaded."""


def from_tensors(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    mean: list[float] | None = None,
    std: list[float] | None = None,
    size: tuple[int, int] | None = None,
    augmentation: Augmentation = UNVARIED,
) -> Splits:
    """Splits from (images [N, C, H, W] of bytes, labels [N]) for training and for testing.

    `mean` and `std` are by default those of each channel of the training images, and `size` is the
    size of the training images. Raises UserError for tensors of another kind.
    """
    _require_images("training", *train)
    _require_images("test", *test)
    train_images, train_labels = train
    test_images, test_labels = test
    if size is None:
        _, _, height, width = train_images.shape
        size = (height, width)
    if mean is None or std is None:
        mean, std = channel_statistics([train_images])
    means = torch.tensor(mean)
    stds = torch.tensor(std)
    return Splits(
        TensorSplit(train_images, train_labels.long(), means, stds, size, augmentation),
        TensorSplit(test_images, test_labels.long(), means, stds, size),
    )


def _require_images(split_name: str, images: Tensor, labels: Tensor) -> None:
    if images.dtype != torch.uint8 or images.dim() != 4:
        raise UserError(
            f"the {split_name} images must be unsigned bytes [N, C, H, W], "
            f"not {images.dtype} {list(images.shape)}"
        )
    if labels.is_floating_point() or labels.shape != images.shape[:1]:
        raise UserError(
            f"the {split_name} labels must be integers, one for each of the {len(images)} images, "
            f"not {labels.dtype} {list(labels.shape)}"
        )


def channel_statistics(batches: Iterable[Tensor]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation, on the scale [0, 1], of each channel of batches of images.

    A batch is [N, C, H, W] of bytes. The result is computed from counts of the 256 values, so how
    the images are batched does not matter.
    """
    counts = functools.reduce(operator.add, map(_value_counts, batches)).double()
    levels = torch.arange(256, dtype=torch.float64) / 255
    shares = counts / counts.sum(1, keepdim=True)
    means = (shares * levels).sum(1)
    deviations = (shares * (levels - means[:, None]) ** 2).sum(1).sqrt()
    return means.tolist(), torch.where(deviations > 0, deviations, 1.0).tolist()


def _value_counts(images: Tensor) -> Tensor:
    """How often each of the 256 values occurs in each channel of images of bytes: [C, 256]."""
    return torch.stack(
        [torch.bincount(channel.flatten(), minlength=256) for channel in images.unbind(1)]
    )
