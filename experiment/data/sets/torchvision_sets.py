"""MNIST, FashionMNIST, CIFAR-10 and CIFAR-100, downloaded by torchvision.

torchvision compares the files of CIFAR with the published checksums whenever it opens them, but
those of MNIST and FashionMNIST only when it downloads them. Files of these that are already there
are checked by `idx_files`.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from experiment.core.dependencies import Dependencies
from experiment.core.registry import DATASETS
from experiment.data.augmentation import Augmentation
from experiment.data.data_memory import require_memory
from experiment.data.dataset import Dataset, Shape, Splits, from_tensors
from experiment.data.downloads import open_or_download
from experiment.data.idx_files import (
    NUM_CLASSES,
    PUBLISHED_TEST,
    PUBLISHED_TRAIN,
    SIDE,
    TEST,
    TRAIN,
    IdxFiles,
)

DIGITS = tuple("0123456789")
OF_CIFAR10 = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
OF_CIFAR100 = tuple(
    """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
    cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
    lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm
    """.split()
)
OF_FASHION_MNIST = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


@dataclass(frozen=True, kw_only=True)
class TorchvisionDataset(Dataset):
    """A data set of torchvision's that fits into memory."""

    root: str = "data"
    crop_padding: Annotated[int, Field(ge=0, le=256)] = 4

    not_affecting_numbers: ClassVar = ("root",)
    source: ClassVar[str]  # its class in torchvision.datasets
    mean: ClassVar[list[float]]
    std: ClassVar[list[float]]
    classes: ClassVar[tuple[str, ...]]

    def load(self) -> Splits:
        _, height, width = self.shape().input_shape
        return from_tensors(
            self._tensors(train=True),
            self._tensors(train=False),
            mean=self.mean,
            std=self.std,
            size=(height, width),
            augmentation=Augmentation(self.crop_padding, getattr(self, "horizontal_flip", False)),
        )

    def _tensors(self, train: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Images as bytes [N, C, H, W] and labels [N]."""
        split = open_or_download(self.source, self.root, train)
        images = torch.as_tensor(split.data).permute(0, 3, 1, 2)
        return images.contiguous(), torch.as_tensor(split.targets).long()


@DATASETS.register
@dataclass(frozen=True, kw_only=True)
class CIFAR10(TorchvisionDataset):
    """60,000 colour photographs of 32x32 pixels in ten classes."""

    horizontal_flip: bool = True

    source = "CIFAR10"
    mean = [0.4914, 0.4822, 0.4465]
    std = [0.2023, 0.1994, 0.2010]
    classes = OF_CIFAR10

    def shape(self) -> Shape:
        return Shape((3, 32, 32), 10, 50_000, num_test=10_000, classes=self.classes)


@DATASETS.register
@dataclass(frozen=True, kw_only=True)
class CIFAR100(TorchvisionDataset):
    """60,000 colour photographs of 32x32 pixels in a hundred classes."""

    horizontal_flip: bool = True

    source = "CIFAR100"
    mean = [0.5071, 0.4865, 0.4409]
    std = [0.2673, 0.2564, 0.2762]
    classes = OF_CIFAR100

    def shape(self) -> Shape:
        return Shape((3, 32, 32), 100, 50_000, num_test=10_000, classes=self.classes)


@dataclass(frozen=True, kw_only=True)
class IdxDataset(TorchvisionDataset):
    """A data set in four files like MNIST's, which are downloaded if they are not there."""

    image_size: Annotated[int, Field(ge=1, le=1024)] = 28

    def dependencies(self, verify: bool) -> Dependencies:
        """All that the files hold, if they are not the published ones; `verify` adds nothing."""
        return self._files.dependencies()

    def shape(self) -> Shape:
        """The dimensions of the files that are there, else of the published ones, for dry runs.

        No image is decoded. The note needs checksums, which take 0.2 s for 70,000 images.
        """
        counts = self._files.counts()
        num_train, num_test = counts or (PUBLISHED_TRAIN, PUBLISHED_TEST)
        input_shape = (1, self.image_size, self.image_size)
        note = self._files.note(counts)
        return Shape(input_shape, NUM_CLASSES, num_train, note, num_test, self.classes)

    def load(self) -> Splits:
        counts = self._files.counts()
        if counts is None:
            open_or_download(self.source, self.root, train=True)
        else:
            num_train, num_test = counts
            require_memory(self.source, (num_train + num_test) * SIDE**2)
        return super().load()

    def _tensors(self, train: bool) -> tuple[torch.Tensor, torch.Tensor]:
        return self._files.read(TRAIN if train else TEST)

    @property
    def _files(self) -> IdxFiles:
        return IdxFiles(self.source, self.root)


@DATASETS.register
@dataclass(frozen=True, kw_only=True)
class MNIST(IdxDataset):
    """70,000 handwritten digits of 28x28 pixels.

    `image_size: 32` adds a black frame, as LeNet-5 expects.
    """

    source = "MNIST"
    mean = [0.1307]
    std = [0.3081]
    classes = DIGITS


@DATASETS.register
@dataclass(frozen=True, kw_only=True)
class FashionMNIST(IdxDataset):
    """70,000 pictures of clothes of 28x28 pixels in ten classes."""

    horizontal_flip: bool = True

    source = "FashionMNIST"
    mean = [0.2860]
    std = [0.3530]
    classes = OF_FASHION_MNIST
