"""A person's own images: `root/train/<class>/*` and `root/test/<class>/*`."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision.datasets
import torchvision.transforms.v2.functional as transform
from PIL import Image
from torch import Tensor

from experiment.data.dataset import Augmentation, Dataset, Shape, Splits, from_tensors
from experiment.errors import UserError
from experiment.registry import DATASETS

MEMORY_LIMIT = 8 * 2**30  # bytes of images that are kept in memory


@DATASETS.register
@dataclass(frozen=True, kw_only=True)
class ImageFolder(Dataset):
    """Images in one folder a class. Without `image_size` all must have the same size already.

    With it, the shorter side is scaled to it and the centre is cut out. Mean and standard deviation are those
    of the training images.
    """

    root: str
    image_size: int | None = None
    crop_padding: int = 4
    horizontal_flip: bool = True
    grayscale: bool = False

    def shape(self) -> Shape:
        train = self._listed("train")
        height, width = self._size(train)
        return Shape((1 if self.grayscale else 3, height, width), len(train.classes), len(train))

    def load(self) -> Splits:
        train, test = self._listed("train"), self._listed("test")
        if train.classes != test.classes:
            different = sorted(set(train.classes) ^ set(test.classes))
            raise UserError(f"dataset ImageFolder: {self.root}/train and {self.root}/test must hold the same classes; "
                            f"only in one of them: {', '.join(different)}")
        channels, *size = self.shape().input_shape
        needed = (len(train) + len(test)) * channels * size[0] * size[1]
        if needed > MEMORY_LIMIT:
            raise UserError(f"dataset ImageFolder: the images of {self.root} would take {needed / 2**30:.1f} GiB of "
                            f"memory at {size[0]}x{size[1]}; the limit is {MEMORY_LIMIT / 2**30:.0f} GiB: choose a "
                            f"smaller dataset.image_size")
        return from_tensors(self._decoded(train), self._decoded(test),
                            augmentation=Augmentation(self.crop_padding, self.horizontal_flip))

    def _listed(self, part: str) -> torchvision.datasets.ImageFolder:
        """The files and classes of one part, in sorted order."""
        folder = Path(self.root) / part
        if not folder.is_dir():
            raise UserError(f"dataset ImageFolder: no folder {folder}; images belong in {self.root}/train/<class>/ "
                            f"and {self.root}/test/<class>/")
        try:
            return torchvision.datasets.ImageFolder(str(folder))
        except FileNotFoundError as error:
            raise UserError(f"dataset ImageFolder: {' '.join(str(error).split())}") from None

    def _size(self, train: torchvision.datasets.ImageFolder) -> tuple[int, int]:
        if self.image_size is not None:
            return self.image_size, self.image_size
        _, height, width = self._image(train.samples[0][0]).shape
        return height, width

    def _image(self, path: str) -> Tensor:
        """One image as bytes [C, H, W], in its own size."""
        try:
            with Image.open(path) as file:
                return transform.pil_to_tensor(file.convert("L" if self.grayscale else "RGB"))
        except OSError as error:
            raise UserError(f"dataset ImageFolder: {path} is not a readable image: {error}") from None

    def _decoded(self, listed: torchvision.datasets.ImageFolder) -> tuple[Tensor, Tensor]:
        """All images as bytes [N, C, H, W], decoded by threads, and their labels [N]."""
        shape = self.shape().input_shape
        images = torch.empty(len(listed), *shape, dtype=torch.uint8)

        def decode(index: int) -> None:
            path = listed.samples[index][0]
            image = self._image(path)
            if self.image_size is not None:
                image = transform.center_crop(transform.resize(image, self.image_size, antialias=True), shape[1:])
            elif image.shape != shape:
                raise UserError(f"dataset ImageFolder: {path} has {image.shape[1]}x{image.shape[2]} pixels and the "
                                f"first image {shape[1]}x{shape[2]}: set dataset.image_size to scale all to one size")
            images[index] = image

        with ThreadPoolExecutor() as pool:
            for _ in pool.map(decode, range(len(listed))):
                pass
        return images, torch.tensor(listed.targets)
