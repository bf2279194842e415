"""The 1,797 handwritten digits of 8x8 pixels that ship inside scikit-learn: no download."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy
import torch
from pydantic import Field

from experiment.core.registry import DATASETS
from experiment.data.augmentation import Augmentation
from experiment.data.dataset import Dataset, Shape, Splits, from_tensors

NUM_IMAGES = 1797
NUM_TEST = 360
# The numbers of the images for training and then of those for testing, as scikit-learn has drawn
# them: train_test_split(range(1797), test_size=360, random_state=0, stratify=labels).
ORDER = Path(__file__).with_name("digits_order.txt")


@DATASETS.register
@dataclass(frozen=True, kw_only=True)
class digits(Dataset):
    """UCI's optical recognition of handwritten digits (its test part), 1 x 8 x 8, ten classes.

    The set has no split of its own: a fixed fifth (360 images, classes in equal shares) is the
    test set.
    """

    crop_padding: Annotated[int, Field(ge=0, le=256)] = 1

    def shape(self) -> Shape:
        num_train = NUM_IMAGES - NUM_TEST
        return Shape((1, 8, 8), 10, num_train, num_test=NUM_TEST, classes=tuple("0123456789"))

    def load(self) -> Splits:
        table = _table()
        images = torch.from_numpy(table[:, :-1].reshape(-1, 1, 8, 8) * (255 / 16))
        images = images.round().to(torch.uint8)
        labels = torch.from_numpy(table[:, -1]).long()
        order = torch.tensor([int(number) for number in ORDER.read_text().split()])
        train, test = order[:-NUM_TEST], order[-NUM_TEST:]
        return from_tensors(
            (images[train], labels[train]),
            (images[test], labels[test]),
            augmentation=Augmentation(self.crop_padding),
        )


def _table() -> numpy.ndarray:
    """The 64 pixels, from 0 to 16, and the digit of each image.

    From the file of scikit-learn's `load_digits`; to import scikit-learn takes a second or two.
    """
    package = importlib.util.find_spec("sklearn")
    assert package is not None and package.origin is not None
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    return numpy.loadtxt(path, delimiter=",")
