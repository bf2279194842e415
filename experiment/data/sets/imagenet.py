"""ImageNet (ILSVRC 2012), read from its files by worker processes."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
import torchvision.transforms.v2 as transforms
from torch import Tensor

from experiment.core.registry import DATASETS
from experiment.data.dataset import Dataset, Shape, Splits
from experiment.data.image_files import (
    Listed,
    centred,
    list_files,
    read_image,
    require_same_classes,
)
from experiment.data.streamed_split import StreamedSplit

SIZE = 224
SHORTER_SIDE = 256  # to which test images are scaled before the centre is cut out
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
NUM_CLASSES, NUM_TRAIN = 1000, 1_281_167

VARIATION = transforms.Compose(
    [transforms.RandomResizedCrop(SIZE, antialias=True), transforms.RandomHorizontalFlip()]
)


@DATASETS.register
@dataclass(frozen=True, kw_only=True)
class ImageNet(Dataset):
    """1.3 million photographs in a thousand classes, at 224x224: `root/train/<class>/*` and `root/val/<class>/*`.

    Training images are random cuts, scaled and mirrored half the time. The 50,000 images of `val` are the test
    images; as for every data set, validation images are set aside from the training images.
    """

    root: str = "data/imagenet"
    num_workers: int = 8

    not_affecting_numbers: ClassVar = ("root", "num_workers")

    def shape(self) -> Shape:
        """The dimensions of the files there are, else of the original, so that it can be planned without it."""
        if not (Path(self.root) / "train").is_dir():
            return Shape((3, SIZE, SIZE), NUM_CLASSES, NUM_TRAIN)
        return Shape((3, SIZE, SIZE), len(self._train.classes), len(self._train))

    def load(self) -> Splits:
        train, test = self._train, self._listed("val")
        require_same_classes("ImageNet", train, test)
        return Splits(self._split(train), self._split(test))

    @cached_property
    def _train(self) -> Listed:
        return self._listed("train")

    def _listed(self, part: str) -> Listed:
        return list_files(
            "ImageNet",
            Path(self.root) / part,
            f"ImageNet cannot be downloaded automatically: get ILSVRC2012_img_train.tar and "
            f"ILSVRC2012_img_val.tar from https://image-net.org (registration needed) and unpack them "
            f"to {self.root}/train/<class>/*.JPEG and {self.root}/val/<class>/*.JPEG, one folder a class "
            f"such as n01440764, or set dataset.root to where they are",
        )

    def _split(self, listed: Listed) -> StreamedSplit:
        return StreamedSplit(
            tuple(path for path, _ in listed.samples),
            torch.tensor(listed.targets),
            read_centre,
            torch.tensor(MEAN),
            torch.tensor(STD),
            read_varied=read_random_cut,
            num_workers=self.num_workers,
        )


def read_centre(path: str) -> Tensor:
    """An image for evaluation, as bytes [3, 224, 224]."""
    return centred(read_image("ImageNet", path), SHORTER_SIDE, SIZE)


def read_random_cut(path: str, seed: int) -> Tensor:
    """An image for training, as bytes [3, 224, 224], varied as the seed says."""
    image = read_image("ImageNet", path)
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(
            seed
        )  # the CPU's alone, where the transforms draw
        return VARIATION(image)
