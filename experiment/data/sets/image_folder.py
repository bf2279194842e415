"""The user's own images: `root/train/<class>/*` and `root/test/<class>/*`."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from experiment.core.available_memory import available_memory, in_words
from experiment.core.dependencies import Dependencies
from experiment.core.errors import UserError
from experiment.core.registry import DATASETS
from experiment.data.augmentation import Augmentation
from experiment.data.dataset import Dataset, Shape, Splits, channel_statistics, from_tensors
from experiment.data.file_digests import image_dependencies
from experiment.data.image_checks import checked, in_threads, note_on_skipped
from experiment.data.image_decoding import Decoder, centred, read_image
from experiment.data.image_files import ImageFiles, list_files, require_same_classes
from experiment.data.streamed_split import StreamedSplit

MEMORY_LIMIT = 8 * 2**30  # bytes of images that are kept in memory
SHARE_OF_MEMORY = 0.4  # of what is free: setting validation images aside takes a second copy
STATISTICS_BATCH = 64  # images that a worker reads at a time for the mean and standard deviation


@DATASETS.register
@dataclass(frozen=True, kw_only=True)
class ImageFolder(Dataset):
    """Images in one folder per class.

    Without `image_size` all must have the same size already; with it, the shorter side is scaled to
    it and the centre is cut out. `mean` and `std`, one number per channel of images on the scale 0
    to 1, are those of the training images unless both are given.
    Images that do not fit into memory, or all with `in_memory: false`, are read from their files
    whenever they are needed, by `num_workers` processes; the numbers are the same.

    A file that cannot be read ends the run. With `skip_unreadable`, all files are read once before
    anything else is done, and those that cannot be read are left out.
    """

    root: str
    image_size: Annotated[int, Field(ge=1, le=4096)] | None = None
    crop_padding: Annotated[int, Field(ge=0, le=256)] = 4
    horizontal_flip: bool = True
    grayscale: bool = False
    mean: Annotated[list[Annotated[float, Field(le=1)]], Field(min_length=1)] | None = None
    std: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)] | None = None
    in_memory: bool = True
    num_workers: Annotated[int, Field(ge=0, le=1024)] = 4
    skip_unreadable: bool = False

    # `skip_unreadable` makes a difference only where there would be no numbers without it; which
    # images are left out counts among the dependencies.
    not_affecting_numbers: ClassVar = ("root", "in_memory", "num_workers", "skip_unreadable")
    not_affecting_numbers_if_none: ClassVar = ("mean", "std")

    def dependencies(self, verify: bool) -> Dependencies:
        skipping = (self._train, self._test) if self.skip_unreadable else ()
        return image_dependencies(Path(self.root), ("train", "test"), verify, skipping)

    def shape(self) -> Shape:
        require_same_classes("ImageFolder", self._train, self._test)
        self._require_statistics()
        num_classes = len(self._train.classes)
        notes = (
            note_on_skipped("ImageFolder", training=self._train, test=self._test),
            self._shortage,
        )
        return Shape(
            self._reader.shape,
            num_classes,
            len(self._train),
            "; ".join(filter(None, notes)) or None,
            num_test=len(self._test),
            classes=self._train.classes,
        )

    def load(self) -> Splits:
        require_same_classes("ImageFolder", self._train, self._test)
        augmentation = Augmentation(self.crop_padding, self.horizontal_flip)
        if not self.in_memory or self._shortage:
            return self._streamed(augmentation)
        return from_tensors(
            self._decoded(self._train),
            self._decoded(self._test),
            mean=self.mean,
            std=self.std,
            augmentation=augmentation,
        )

    def _require_statistics(self) -> None:
        """Raise UserError unless mean and standard deviation are both given for each channel."""
        channels, *_ = self._reader.shape
        for name, values in (("mean", self.mean), ("std", self.std)):
            if (self.mean is None) != (self.std is None) or len(
                values or [0] * channels
            ) != channels:
                raise UserError(
                    f"dataset ImageFolder: mean and std must both be lists of {channels} numbers, "
                    f"one for each channel, or both be left out; {name} is {values}"
                )

    @cached_property
    def _train(self) -> ImageFiles:
        return self._listed("train")

    @cached_property
    def _test(self) -> ImageFiles:
        return self._listed("test")

    def _listed(self, split: str) -> ImageFiles:
        files = list_files(
            "ImageFolder",
            Path(self.root) / split,
            f"images belong in {self.root}/train/<class>/ and {self.root}/test/<class>/",
        )
        return checked("ImageFolder", files, self._decoder, self.skip_unreadable)

    @property
    def _decoder(self) -> Decoder:
        return Decoder(self.grayscale, shorter_side=self.image_size)

    @cached_property
    def _reader(self) -> "Reader":
        if self.image_size is not None:
            channels = 1 if self.grayscale else 3
            return Reader((channels, self.image_size, self.image_size), self._decoder)
        first = read_image("ImageFolder", self._train.paths[0], self._decoder)
        channels, height, width = first.shape
        return Reader((channels, height, width), self._decoder)

    @cached_property
    def _shortage(self) -> str | None:
        """A line for the log if the images are to be in memory, but do not fit into it."""
        if not self.in_memory:
            return None
        needed = (len(self._train) + len(self._test)) * math.prod(self._reader.shape)
        allowed = min(MEMORY_LIMIT, available_memory() * SHARE_OF_MEMORY)
        if needed <= allowed:
            return None
        return (
            f"dataset ImageFolder: the images need {in_words(needed)}, more than the "
            f"{in_words(allowed)} of memory that they may take: they are read from their files"
        )

    def _decoded(self, files: ImageFiles) -> tuple[Tensor, Tensor]:
        """All images as bytes [N, C, H, W], decoded by threads, and their labels [N]."""
        images = torch.empty(len(files), *self._reader.shape, dtype=torch.uint8)

        def decode(index: int) -> None:
            images[index] = self._reader(files.paths[index])

        for _ in in_threads(decode, range(len(files))):
            pass  # raises what went wrong in a thread
        return images, torch.tensor(files.labels)

    def _streamed(self, augmentation: Augmentation) -> Splits:
        """Splits that read their files in every epoch.

        All are read once more before: the training images for their mean and standard deviation,
        the test images lest one that is broken be found only after a training.
        """
        train, test = map(self._streamed_split, (self._train, self._test))
        statistics = channel_statistics(_all_batches(train))  # reads all, in any case
        mean, std = map(torch.tensor, (self.mean or statistics[0], self.std or statistics[1]))
        for _ in _all_batches(test):
            pass
        return Splits(
            replace(train, mean=mean, std=std, augmentation=augmentation),
            replace(test, mean=mean, std=std),
        )

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


def _all_batches(split: StreamedSplit) -> Iterator[Tensor]:
    """All images of a split as bytes."""
    return split.stored_batches(torch.arange(len(split)).split(STATISTICS_BATCH))


@dataclass(frozen=True)
class Reader:
    """Reads a file as bytes of `shape` (channels, height, width), scaled if the decoder says so."""

    shape: tuple[int, int, int]
    decoder: Decoder

    def __call__(self, path: str) -> Tensor:
        """One image. Raises UserError if it is broken, or of another size and not to be scaled."""
        _, height, width = self.shape
        image = read_image("ImageFolder", path, self.decoder)
        if self.decoder.shorter_side is not None:
            return centred(image, height, height)
        if image.shape != self.shape:
            raise UserError(
                f"dataset ImageFolder: {path} has {image.shape[1]}x{image.shape[2]} pixels and the "
                f"first image {height}x{width}: set dataset.image_size to scale all to one size"
            )
        return image
