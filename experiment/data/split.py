"""What a split of a data set is: images and labels in batches."""

import abc
import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from experiment.core.errors import UserError

Corrupt = Callable[[Tensor, Tensor], Tensor]  # an image of bytes, and `std` -> an image
Share = Callable[[int], slice]  # which images of a batch of so many a process takes


class Split(abc.ABC):
    """Images with their labels, read in batches on one device; the images may be stored anywhere.

    A batch is `(images, labels)`: float32 [N, C, H, W], normalised, and int64 [N].
    """

    @abc.abstractmethod
    def __len__(self) -> int:
        """The number of images."""

    @abc.abstractmethod
    def subset(self, indices: Tensor) -> "Split":
        """The images with these indices."""

    @abc.abstractmethod
    def to(self, device: torch.device | str) -> "Split":
        """The same split with batches on another device."""

    @abc.abstractmethod
    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in order, without variations, for evaluation."""

    @abc.abstractmethod
    def training_batches(
        self, batch_size: int, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch: all images in random order and randomly varied.

        Order and variations are drawn from `generator`, which is on the CPU.
        """

    def corrupted(self, corrupt: Corrupt) -> "Split":
        """The same with each image corrupted, as it is before it is normalised.

        Raises UserError if images of this kind of split cannot be corrupted.
        """
        raise UserError(
            f"evaluation.corruptions: the test images are a {type(self).__name__}, which cannot be "
            f"corrupted; experiment.data.dataset.from_tensors makes splits that can"
        )

    def training_draws(
        self, batch_size: int, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, ...]]:
        """What each batch of an epoch is made of by `varied`; tensors on the device."""
        return self.training_batches(batch_size, generator)

    def shared_draws(
        self, batch_size: int, generator: torch.Generator, share: Share
    ) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
        """The size of each batch of an epoch, and the draws of this process's share of it.

        They are drawn for whole batches, so that all processes together draw what one would.
        """
        for draws in self.training_draws(batch_size, generator):
            count = len(draws[0])
            own = share(count)
            yield count, tuple(tensor[own] for tensor in draws)

    def varied(self, *draws: Tensor) -> tuple[Tensor, Tensor]:
        """The batch that draws lead to.

        It depends on nothing else, and neither reads a file nor waits for the device, so that it
        can be recorded as a part of a training step.
        """
        images, labels = draws
        return images, labels

    def num_batches(self, batch_size: int) -> int:
        """The number of batches of an epoch."""
        return len(training_bounds(len(self), batch_size)) - 1


def training_bounds(count: int, batch_size: int) -> list[int]:
    """Where the batches of an epoch of `count` images begin and end.

    An image that would be alone in the last batch joins the batch before, since BatchNorm cannot
    train on a single image.
    """
    bounds = [*range(0, count, batch_size), count]
    if len(bounds) > 2 and bounds[-1] - bounds[-2] == 1:
        del bounds[-2]
    return bounds


def training_order(count: int, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """The indices of the images of each batch of an epoch, in random order."""
    order = torch.randperm(count, generator=generator)
    return [
        order[start:end] for start, end in itertools.pairwise(training_bounds(count, batch_size))
    ]
