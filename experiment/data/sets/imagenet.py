"""ImageNet (ILSVRC 2012), read from its files by worker processes."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from experiment.core.dependencies import Dependencies
from experiment.core.registry import DATASETS
from experiment.data.dataset import Dataset, Shape, Splits
from experiment.data.file_digests import image_dependencies
from experiment.data.image_checks import checked, note_on_skipped
from experiment.data.image_decoding import Decoder, centred, read_image
from experiment.data.image_files import ImageFiles, list_files, require_same_classes
from experiment.data.streamed_split import StreamedSplit

SIZE = 224
SHORTER_SIDE = 256  # to which test images are scaled before the centre is cut out
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
NUM_CLASSES = 1000
NUM_TRAIN = 1_281_167
NUM_TEST = 50_000
DECODER_OF_CROPS = Decoder()
OF_EVALUATION = Decoder(shorter_side=SHORTER_SIDE)


@DATASETS.register
@dataclass(frozen=True, kw_only=True)
class ImageNet(Dataset):
    """1.3 million photographs in a thousand classes, at 224x224 pixels.

    They are expected in `root/train/<class>/*` and `root/val/<class>/*`. Training images are random
    crops, scaled, and mirrored half the time. The 50,000 images of `val` are the test images; as
    for every data set, validation images are set aside from the training images.

    A file that cannot be read ends the run. With `skip_unreadable`, all files are read once before
    anything else is done, and those that cannot be read are left out.
    """

    root: str = "data/imagenet"
    num_workers: Annotated[int, Field(ge=0, le=1024)] = 8
    skip_unreadable: bool = False

    # `skip_unreadable` makes a difference only where there would be no numbers without it; which
    # images are left out counts among the dependencies.
    not_affecting_numbers: ClassVar = ("root", "num_workers", "skip_unreadable")

    def dependencies(self, verify: bool) -> Dependencies:
        skipping = (self._train, self._test) if self.skip_unreadable else ()
        return image_dependencies(Path(self.root), ("train", "val"), verify, skipping)

    def shape(self) -> Shape:
        """The dimensions of the files that are there, else of the original, for dry runs."""
        if not (Path(self.root) / "train").is_dir():
            return Shape((3, SIZE, SIZE), NUM_CLASSES, NUM_TRAIN, num_test=NUM_TEST)
        require_same_classes("ImageNet", self._train, self._test)
        return Shape(
            (3, SIZE, SIZE),
            len(self._train.classes),
            len(self._train),
            note_on_skipped("ImageNet", training=self._train, test=self._test),
            num_test=len(self._test),
            classes=self._train.classes,
        )

    def load(self) -> Splits:
        train = self._train
        require_same_classes("ImageNet", train, self._test)
        return Splits(self._split(train), self._split(self._test))

    @functools.cached_property
    def _train(self) -> ImageFiles:
        return self._listed("train")

    @functools.cached_property
    def _test(self) -> ImageFiles:
        return self._listed("val")

    def _listed(self, split: str) -> ImageFiles:
        files = list_files(
            "ImageNet",
            Path(self.root) / split,
            f"ImageNet cannot be downloaded automatically: get ILSVRC2012_img_train.tar and "
            f"ILSVRC2012_img_val.tar from https://image-net.org (registration needed) and unpack "
            f"them to {self.root}/train/<class>/*.JPEG and {self.root}/val/<class>/*.JPEG, one "
            f"folder per class such as n01440764, or set dataset.root to where they are",
        )
        # Images that are set aside from the training images are used in evaluations too.
        return checked("ImageNet", files, OF_EVALUATION, self.skip_unreadable)

    def _split(self, files: ImageFiles) -> StreamedSplit:
        return StreamedSplit(
            files.paths,
            torch.tensor(files.labels),
            read_centre,
            torch.tensor(MEAN),
            torch.tensor(STD),
            read_varied=read_random_crop,
            num_workers=self.num_workers,
        )


def read_centre(path: str) -> Tensor:
    """An image for evaluation, as bytes [3, 224, 224]."""
    return centred(read_image("ImageNet", path, OF_EVALUATION), SHORTER_SIDE, SIZE)


def read_random_crop(path: str, seed: int) -> Tensor:
    """An image for training, as bytes [3, 224, 224], varied as the seed says."""
    image = read_image("ImageNet", path, DECODER_OF_CROPS)
    with torch.random.fork_rng(devices=[]):
        # Seeds the CPU's generator alone, which the transforms draw from.
        torch.random.default_generator.manual_seed(seed)
        return _variation()(image)


@functools.cache
def _variation() -> Callable[[Tensor], Tensor]:
    from torchvision.transforms import v2  # takes seconds to import

    return v2.Compose([v2.RandomResizedCrop(SIZE, antialias=True), v2.RandomHorizontalFlip()])
