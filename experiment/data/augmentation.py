"""How training images are varied, and how images are brought to one size and scale."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True)
class Augmentation:
    """Random variations of training images: zero padding with a random crop, and mirroring.

    With `horizontal_flip`, an image is mirrored with a probability of one half.
    """

    crop_padding: int = 0
    horizontal_flip: bool = False

    def __call__(self, images: Tensor, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Vary each image of a batch [N, C, H, W] on its own, and crop it to `size`."""
        cropped = self._cropped(images, size, generator)
        if not self.horizontal_flip:
            return cropped
        mirrored = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
        return torch.where(mirrored[:, None, None, None], cropped.flip(3), cropped)

    def _cropped(self, images: Tensor, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        height, width = size
        padded = pad_to(pad(images, [self.crop_padding] * 4), size)
        # All crops there are: [N, C, rows, columns, height, width].
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        count = len(images)
        rows = torch.randint(windows.shape[2], (count,), generator=generator).to(images.device)
        columns = torch.randint(windows.shape[3], (count,), generator=generator).to(images.device)
        return windows[torch.arange(count, device=images.device), :, rows, columns]


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
