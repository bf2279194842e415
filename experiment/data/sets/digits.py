"""The 1,797 handwritten digits of 8x8 pixels that ship inside scikit-learn: no download."""

from dataclasses import dataclass

import sklearn.datasets
import sklearn.model_selection
import torch

from experiment.core.registry import DATASETS
from experiment.data.dataset import Dataset, Shape, Splits, from_tensors
from experiment.data.split import Augmentation

NUM_TEST = 360


@DATASETS.register
@dataclass(frozen=True, kw_only=True)
class digits(Dataset):
    """UCI's optical recognition of handwritten digits (its test part), 1 x 8 x 8, ten classes.

    The set has no split of its own: a fixed fifth (360 images, classes in equal shares) is the test set.
    """

    crop_padding: int = 1

    def shape(self) -> Shape:
        return Shape((1, 8, 8), 10, 1797 - NUM_TEST)

    def load(self) -> Splits:
        bunch = sklearn.datasets.load_digits()
        images = torch.from_numpy(bunch.images * (255 / 16)).round().to(torch.uint8)[:, None]
        labels = torch.from_numpy(bunch.target).long()
        train, test = sklearn.model_selection.train_test_split(
            range(len(labels)), test_size=NUM_TEST, random_state=0, stratify=bunch.target
        )
        return from_tensors(
            (images[train], labels[train]),
            (images[test], labels[test]),
            augmentation=Augmentation(self.crop_padding),
        )
