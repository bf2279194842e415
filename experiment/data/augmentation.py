"""How training images are varied, and how images are brought to one size and scale."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad


class Variation(NamedTuple):
    """How each image of a batch is varied: where it is cropped, and whether it is mirrored."""

    rows: Tensor  # int64 [N]
    columns: Tensor  # int64 [N]
    mirrored: Tensor  # bool [N]

    def to(self, device: torch.device) -> "Variation":
        return Variation(*(tensor.to(device) for tensor in self))


@dataclass(frozen=True)
class Augmentation:
    """Random variations of training images: zero padding with a random crop, and mirroring.

    With `horizontal_flip`, an image is mirrored with a probability of one half.
    """

    crop_padding: int = 0
    horizontal_flip: bool = False

    def __call__(self, images: Tensor, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Vary each image of a batch [N, C, H, W] on its own, and crop it to `size`."""
        count, _, height, width = images.shape
        variation = self.draw(count, (height, width), size, generator)
        return self.apply(images, size, variation.to(images.device))

    def draw(
        self, count: int, stored: tuple[int, int], size: tuple[int, int], generator: torch.Generator
    ) -> Variation:
        """Draw how `count` images of the size `stored` are varied and cropped to `size`."""
        rows, columns = (
            torch.randint(self._num_offsets(length, wanted), (count,), generator=generator)
            for length, wanted in zip(stored, size)
        )
        if not self.horizontal_flip:
            return Variation(rows, columns, torch.zeros(count, dtype=torch.bool))
        return Variation(rows, columns, torch.rand(count, generator=generator) < 0.5)

    def apply(self, images: Tensor, size: tuple[int, int], variation: Variation) -> Tensor:
        """Vary images [N, C, H, W] as drawn, on the same device."""
        height, width = size
        padded = pad_to(pad(images, [self.crop_padding] * 4), size)
        # All crops there are: [N, C, rows, columns, height, width].
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        image = torch.arange(len(images), device=images.device)
        cropped = windows[image, :, variation.rows, variation.columns]
        if not self.horizontal_flip:
            return cropped
        return torch.where(variation.mirrored[:, None, None, None], cropped.flip(3), cropped)

    def _num_offsets(self, length: int, wanted: int) -> int:
        """At how many places an image of a length can be cropped."""
        return max(length + 2 * self.crop_padding, wanted) - wanted + 1


UNVARIED = Augmentation()


def pad_to(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Pad images [..., H, W] with zeros, equally on both sides, to at least this size."""
    missing_rows = max(0, size[0] - images.shape[-2])
    missing_columns = max(0, size[1] - images.shape[-1])
    left = missing_columns // 2
    top = missing_rows // 2
    return pad(images, [left, missing_columns - left, top, missing_rows - top])


def centre(images: Tensor, size: tuple[int, int]) -> Tensor:
    """The centre of images [N, C, H, W], padded with zeros where they are smaller than `size`."""
    height, width = size
    images = pad_to(images, size)
    top = (images.shape[2] - height) // 2
    left = (images.shape[3] - width) // 2
    return images[:, :, top : top + height, left : left + width]


def normalised(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Images [N, C, H, W] of bytes, scaled to [0, 1], less `mean`, divided by `std` (each [C])."""
    return (images.float() / 255 - mean[:, None, None]) / std[:, None, None]
