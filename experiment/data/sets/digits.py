"""The 1,797 handwritten digits of 8x8 pixels that ship inside scikit-learn: no download."""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field

from experiment.core.registry import DATASETS
from experiment.data.augmentation import Augmentation
from experiment.data.dataset import Dataset, Shape, Splits, from_tensors

NUM_IMAGES = 1797
NUM_TEST = 360


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
        from sklearn.datasets import load_digits  # takes seconds to import
        from sklearn.model_selection import train_test_split

        bunch = load_digits()
        images = torch.from_numpy(bunch.images * (255 / 16)).round().to(torch.uint8)[:, None]
        labels = torch.from_numpy(bunch.target).long()
        train, test = train_test_split(
            range(len(labels)), test_size=NUM_TEST, random_state=0, stratify=bunch.target
        )
        return from_tensors(
            (images[train], labels[train]),
            (images[test], labels[test]),
            augmentation=Augmentation(self.crop_padding),
        )
