"""A split that is kept in memory as two tensors."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from experiment.data.augmentation import UNVARIED, Augmentation, centre, normalised
from experiment.data.split import Split, training_order


@dataclass(frozen=True)
class TensorSplit(Split):
    """Images [N, C, H, W] of unsigned bytes with their labels [N], on one device.

    Batches are float32: cropped or padded to `size`, scaled to [0, 1], less `mean`, divided by
    `std` (each [C]).
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
