"""A split that is kept in memory as two tensors."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from experiment.data.augmentation import (
    UNVARIED,
    Augmentation,
    Variation,
    centre,
    normalised,
)
from experiment.data.split import Corrupt, Split, training_order


@dataclass(frozen=True)
class TensorSplit(Split):
    """Images [N, C, H, W] of unsigned bytes with their labels [N], on one device.

    Batches are float32: cropped or padded to `size`, scaled to [0, 1], less `mean`, divided by
    `std` (each [C]). Images that are corrupted may be floats on the scale of bytes.
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

    def corrupted(self, corrupt: Corrupt) -> "TensorSplit":
        images, std = centre(self.images, self.size).cpu(), self.std.cpu()
        changed = torch.stack([corrupt(image, std) for image in images])
        return replace(self, images=changed.to(self.images.device))

    def training_batches(
        self, batch_size: int, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        for draws in self.training_draws(batch_size, generator):
            yield self.varied(*draws)

    def training_draws(
        self, batch_size: int, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, ...]]:
        """The indices and the variation of each batch; drawn, and moved, for the whole epoch."""
        order = training_order(len(self), batch_size, generator)
        sizes = [len(chosen) for chosen in order]
        _, _, height, width = self.images.shape
        variations = [
            self.augmentation.draw(size, (height, width), self.size, generator) for size in sizes
        ]
        of_epoch = [torch.cat(order), *(torch.cat(parts) for parts in zip(*variations))]
        yield from zip(*(tensor.to(self.images.device).split(sizes) for tensor in of_epoch))

    def varied(self, *draws: Tensor) -> tuple[Tensor, Tensor]:
        chosen, *variation = draws
        images = self.augmentation.apply(self.images[chosen], self.size, Variation(*variation))
        return normalised(images, self.mean, self.std), self.labels[chosen]
