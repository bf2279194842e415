"""Images in memory: a split of a data set, its batches, and how training images are varied."""

import abc
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True)
class Shape:
    """What a network and a plan need to know of a data set."""

    input_shape: tuple[int, int, int]  # channels, height, width of an image as the network sees it
    num_classes: int
    num_train: int


@dataclass(frozen=True)
class Augmentation:
    """Random variations of training images: zero padding and a random crop, and a mirror image half the time."""

    crop_padding: int = 0
    horizontal_flip: bool = False

    def __call__(self, images: Tensor, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Vary a batch [N, C, H, W], each image on its own, and cut it to `size`."""
        padded = pad(images, [self.crop_padding] * 4)
        padded = pad_to(padded, size)
        windows = padded.unfold(2, size[0], 1).unfold(3, size[1], 1)  # N, C, rows, columns, height, width
        count = len(images)
        rows = torch.randint(windows.shape[2], (count,), generator=generator).to(images.device)
        columns = torch.randint(windows.shape[3], (count,), generator=generator).to(images.device)
        cut = windows[torch.arange(count, device=images.device), :, rows, columns]
        if self.horizontal_flip:
            mirrored = (torch.rand(count, generator=generator) < 0.5).to(images.device)
            cut = torch.where(mirrored[:, None, None, None], cut.flip(3), cut)
        return cut


def pad_to(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Zero padding, equal on both sides, so that images [..., H, W] are at least of this size."""
    missing = [max(0, size[0] - images.shape[-2]), max(0, size[1] - images.shape[-1])]
    return pad(images, [missing[1] // 2, missing[1] - missing[1] // 2, missing[0] // 2, missing[0] - missing[0] // 2])


def centre(images: Tensor, size: tuple[int, int]) -> Tensor:
    """The centre of images [N, C, H, W], padded with zeros where they are smaller than `size`."""
    images = pad_to(images, size)
    top, left = (images.shape[2] - size[0]) // 2, (images.shape[3] - size[1]) // 2
    return images[:, :, top : top + size[0], left : left + size[1]]


@dataclass(frozen=True)
class TensorSplit:
    """Images [N, C, H, W] of unsigned bytes with their labels [N], kept as two tensors on one device.

    Batches are float32: scaled to [0, 1], less `mean`, divided by `std` (each [C]), cut to `size`.
    """

    images: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor
    size: tuple[int, int]
    augmentation: Augmentation = Augmentation()

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Tensor) -> "TensorSplit":
        """The images with these numbers."""
        indices = indices.to(self.labels.device)
        return replace(self, images=self.images[indices], labels=self.labels[indices])

    def to(self, device: torch.device) -> "TensorSplit":
        return replace(self, images=self.images.to(device), labels=self.labels.to(device),
                       mean=self.mean.to(device), std=self.std.to(device))

    def num_batches(self, batch_size: int) -> int:
        return -(-len(self) // batch_size)

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in order and as they are, for evaluation."""
        for start in range(0, len(self), batch_size):
            images = self.images[start : start + batch_size]
            yield self._normalised(centre(images, self.size)), self.labels[start : start + batch_size]

    def training_batches(self, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch: all images in random order, randomly varied.

        An image left alone in the last batch goes to the one before, since BatchNorm cannot train on one image.
        """
        order = torch.randperm(len(self), generator=generator).to(self.images.device)
        bounds = list(range(0, len(self), batch_size)) + [len(self)]
        if len(bounds) > 2 and bounds[-1] - bounds[-2] == 1:
            del bounds[-2]
        for start, end in itertools.pairwise(bounds):
            chosen = order[start:end]
            images = self.augmentation(self.images[chosen], self.size, generator)
            yield self._normalised(images), self.labels[chosen]

    def _normalised(self, images: Tensor) -> Tensor:
        return (images.float() / 255 - self.mean[:, None, None]) / self.std[:, None, None]


@dataclass(frozen=True)
class Splits:
    """The training and the test images of a data set."""

    train: TensorSplit
    test: TensorSplit


class Dataset(abc.ABC):
    """A data set. Its options are the fields of the (keyword-only, frozen) dataclass that derives from this.

    `not_affecting_numbers` names the options that say where the same data lie: they do not enter the run id.
    """

    not_affecting_numbers: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def shape(self) -> Shape:
        """Its dimensions, found without reading the images."""

    @abc.abstractmethod
    def load(self) -> Splits:
        """The images. Raises UserError if they cannot be had."""


def from_tensors(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], *,
                 mean: list[float] | None = None, std: list[float] | None = None,
                 size: tuple[int, int] | None = None, augmentation: Augmentation = Augmentation()) -> Splits:
    """Splits from (images [N, C, H, W] of bytes, labels [N]) for training and for testing.

    Without `mean` and `std` those of the training images are taken, channel by channel.
    """
    images = train[0]
    size = size or tuple(images.shape[2:])
    if mean is None or std is None:
        mean, std = channel_statistics(images)
    common = {"mean": torch.tensor(mean), "std": torch.tensor(std), "size": size}
    return Splits(TensorSplit(*train, **common, augmentation=augmentation), TensorSplit(*test, **common))


def channel_statistics(images: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel on the scale [0, 1], from counts of the 256 values."""
    means, deviations = [], []
    levels = torch.arange(256, dtype=torch.float64) / 255
    for channel in range(images.shape[1]):
        counts = torch.bincount(images[:, channel].flatten(), minlength=256).double()
        share = counts / counts.sum()
        mean = float((share * levels).sum())
        deviation = float((share * (levels - mean) ** 2).sum()) ** 0.5
        means.append(mean)
        deviations.append(deviation if deviation > 0 else 1.0)
    return means, deviations
