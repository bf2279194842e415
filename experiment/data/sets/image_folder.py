"""The user's own images: `root/train/<class>/*` and `root/test/<class>/*`."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from experiment.core.dependencies import Dependencies
from experiment.core.errors import UserError
from experiment.core.registry import DATASETS
from experiment.data.augmentation import Augmentation
from experiment.data.dataset import Dataset, Shape, Splits, channel_statistics, from_tensors
from experiment.data.file_digests import image_dependencies
from experiment.data.image_files import (
    ImageFiles,
    centred,
    list_files,
    read_image,
    require_same_classes,
)
from experiment.data.streamed_split import StreamedSplit

MEMORY_LIMIT = 8 * 2**30  # bytes of images that are kept in memory
STATISTICS_BATCH = 64  # images that a worker reads at a time for the mean and standard deviation


@DATASETS.register
@dataclass(frozen=True, kw_only=True)
class ImageFolder(Dataset):
    """Images in one folder per class.

    Without `image_size` all must have the same size already; with it, the shorter side is scaled to
    it and the centre is cut out. Mean and standard deviation are those of the training images.
    Images that do not fit into memory, or all with `in_memory: false`, are read from their files
    whenever they are needed, by `num_workers` processes; the numbers are the same.
    """

    root: str
    image_size: int | None = None
    crop_padding: int = 4
    horizontal_flip: bool = True
    grayscale: bool = False
    in_memory: bool = True
    num_workers: int = 4

    not_affecting_numbers: ClassVar = ("root", "in_memory", "num_workers")

    def dependencies(self, verify: bool) -> Dependencies:
        return image_dependencies(Path(self.root), ("train", "test"), verify)

    def shape(self) -> Shape:
        num_classes = len(self._train.classes)
        return Shape(self._reader.shape, num_classes, len(self._train), num_test=len(self._test))

    def load(self) -> Splits:
        require_same_classes("ImageFolder", self._train, self._test)
        channels, height, width = self._reader.shape
        needed = (len(self._train) + len(self._test)) * channels * height * width
        augmentation = Augmentation(self.crop_padding, self.horizontal_flip)
        if not self.in_memory or needed > MEMORY_LIMIT:
            return self._streamed(augmentation)
        return from_tensors(
            self._decoded(self._train), self._decoded(self._test), augmentation=augmentation
        )

    @cached_property
    def _train(self) -> ImageFiles:
        return self._listed("train")

    @cached_property
    def _test(self) -> ImageFiles:
        return self._listed("test")

    def _listed(self, split: str) -> ImageFiles:
        return list_files(
            "ImageFolder",
            Path(self.root) / split,
            f"images belong in {self.root}/train/<class>/ and {self.root}/test/<class>/",
        )

    @cached_property
    def _reader(self) -> "Reader":
        if self.image_size is not None:
            channels = 1 if self.grayscale else 3
            return Reader((channels, self.image_size, self.image_size), scaled=True)
        first = read_image("ImageFolder", self._train.paths[0], self.grayscale)
        channels, height, width = first.shape
        return Reader((channels, height, width), scaled=False)

    def _decoded(self, files: ImageFiles) -> tuple[Tensor, Tensor]:
        """All images as bytes [N, C, H, W], decoded by threads, and their labels [N]."""
        images = torch.empty(len(files), *self._reader.shape, dtype=torch.uint8)

        def decode(index: int) -> None:
            images[index] = self._reader(files.paths[index])

        with ThreadPoolExecutor() as pool:
            for _ in pool.map(decode, range(len(files))):
                pass  # raises what went wrong in a thread
        return images, torch.tensor(files.labels)

    def _streamed(self, augmentation: Augmentation) -> Splits:
        """Splits that read their files in every epoch.

        To find mean and standard deviation, the training images are read once more.
        """
        train = self._streamed_split(self._train)
        everything = torch.arange(len(train)).split(STATISTICS_BATCH)
        mean, std = map(torch.tensor, channel_statistics(train.stored_batches(everything)))
        test = replace(self._streamed_split(self._test), mean=mean, std=std)
        return Splits(replace(train, mean=mean, std=std, augmentation=augmentation), test)

    def _streamed_split(self, files: ImageFiles) -> StreamedSplit:
        """The images of a folder, neither varied nor normalised."""
        return StreamedSplit(
            files.paths,
            torch.tensor(files.labels),
            self._reader,
            mean=torch.zeros(1),
            std=torch.ones(1),
            num_workers=self.num_workers,
        )


@dataclass(frozen=True)
class Reader:
    """Reads a file as bytes of `shape` (channels, height, width), scaled and cropped if asked."""

    shape: tuple[int, int, int]
    scaled: bool

    def __call__(self, path: str) -> Tensor:
        """One image. Raises UserError if it is broken, or of another size and not to be scaled."""
        channels, height, width = self.shape
        image = read_image("ImageFolder", path, grayscale=channels == 1)
        if self.scaled:
            return centred(image, height, height)
        if image.shape != self.shape:
            raise UserError(
                f"dataset ImageFolder: {path} has {image.shape[1]}x{image.shape[2]} pixels and the "
                f"first image {height}x{width}: set dataset.image_size to scale all to one size"
            )
        return image
