"""A split of a data set: batches of images and labels, and how training images are varied."""

import abc
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad


class Split(abc.ABC):
    """Images with their labels, which come in batches on one device; the images themselves may lie anywhere.

    A batch is `(images, labels)`: float32 [N, C, H, W], scaled as a network wants them, and int64 [N].
    """

    @abc.abstractmethod
    def __len__(self) -> int:
        """The number of images."""

    @abc.abstractmethod
    def subset(self, indices: Tensor) -> "Split":
        """The images with these numbers."""

    @abc.abstractmethod
    def to(self, device: torch.device | str) -> "Split":
        """The same split with batches on another device."""

    @abc.abstractmethod
    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in order and as they are, for evaluation."""

    @abc.abstractmethod
    def training_batches(
        self, batch_size: int, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch: all images in random order, randomly varied, both drawn from a generator of the CPU alone."""

    def num_batches(self, batch_size: int) -> int:
        """The number of batches of an epoch."""
        return len(training_bounds(len(self), batch_size)) - 1


def training_bounds(count: int, batch_size: int) -> list[int]:
    """Where the batches of an epoch of `count` images begin and end.

    An image left alone in the last batch goes to the one before, since BatchNorm cannot train on one image.
    """
    bounds = list(range(0, count, batch_size)) + [count]
    if len(bounds) > 2 and bounds[-1] - bounds[-2] == 1:
        del bounds[-2]
    return bounds


def training_order(count: int, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """The numbers of the images of each batch of an epoch, in random order."""
    order = torch.randperm(count, generator=generator)
    return [
        order[start:end] for start, end in itertools.pairwise(training_bounds(count, batch_size))
    ]


@dataclass(frozen=True)
class Augmentation:
    """Random variations of training images: zero padding and a random crop, and a mirror image half the time."""

    crop_padding: int = 0
    horizontal_flip: bool = False

    def __call__(self, images: Tensor, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Vary a batch [N, C, H, W], each image on its own, and cut it to `size`."""
        padded = pad(images, [self.crop_padding] * 4)
        padded = pad_to(padded, size)
        windows = padded.unfold(2, size[0], 1).unfold(
            3, size[1], 1
        )  # N, C, rows, columns, height, width
        count = len(images)
        rows = torch.randint(windows.shape[2], (count,), generator=generator).to(images.device)
        columns = torch.randint(windows.shape[3], (count,), generator=generator).to(images.device)
        cut = windows[torch.arange(count, device=images.device), :, rows, columns]
        if self.horizontal_flip:
            mirrored = (torch.rand(count, generator=generator) < 0.5).to(images.device)
            cut = torch.where(mirrored[:, None, None, None], cut.flip(3), cut)
        return cut


UNVARIED = Augmentation()


def pad_to(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Zero padding, equal on both sides, so that images [..., H, W] are at least of this size."""
    missing = [max(0, size[0] - images.shape[-2]), max(0, size[1] - images.shape[-1])]
    return pad(
        images,
        [
            missing[1] // 2,
            missing[1] - missing[1] // 2,
            missing[0] // 2,
            missing[0] - missing[0] // 2,
        ],
    )


def centre(images: Tensor, size: tuple[int, int]) -> Tensor:
    """The centre of images [N, C, H, W], padded with zeros where they are smaller than `size`."""
    images = pad_to(images, size)
    top, left = (images.shape[2] - size[0]) // 2, (images.shape[3] - size[1]) // 2
    return images[:, :, top : top + size[0], left : left + size[1]]


def normalised(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Images [N, C, H, W] of bytes on the scale [0, 1], less `mean`, divided by `std` (each [C])."""
    return (images.float() / 255 - mean[:, None, None]) / std[:, None, None]


@dataclass(frozen=True)
class TensorSplit(Split):
    """Images [N, C, H, W] of unsigned bytes with their labels [N], kept as two tensors on one device.

    Batches are float32: scaled to [0, 1], less `mean`, divided by `std` (each [C]), cut to `size`.
    """

    images: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor
    size: tuple[int, int]
    augmentation: Augmentation = UNVARIED

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Tensor) -> "TensorSplit":
        indices = indices.to(self.labels.device)
        return replace(self, images=self.images[indices], labels=self.labels[indices])

    def to(self, device: torch.device | str) -> "TensorSplit":
        return replace(
            self,
            images=self.images.to(device),
            labels=self.labels.to(device),
            mean=self.mean.to(device),
            std=self.std.to(device),
        )

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self), batch_size):
            images = centre(self.images[start : start + batch_size], self.size)
            yield normalised(images, self.mean, self.std), self.labels[start : start + batch_size]

    def training_batches(
        self, batch_size: int, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        for chosen in training_order(len(self), batch_size, generator):
            chosen = chosen.to(self.images.device)
            images = self.augmentation(self.images[chosen], self.size, generator)
            yield normalised(images, self.mean, self.std), self.labels[chosen]
