"""Refusing data that do not fit into memory, before the system ends the process that loads them."""

import contextlib
from collections.abc import Iterator

import torch

from experiment.core.available_memory import available_memory, in_words
from experiment.core.errors import UserError
from experiment.data.split import Split
from experiment.data.tensor_split import TensorSplit

REMEDY = "ImageFolder with in_memory: false leaves images in their files"


def require_memory(dataset: str, needed: int) -> None:
    """Raise UserError if there are not as many bytes of memory left."""
    available = available_memory()
    if needed > available:
        raise UserError(
            f"dataset {dataset}: its images need {in_words(needed)} of memory, "
            f"but only {in_words(available)} is free; {REMEDY}"
        )


def num_bytes(split: Split) -> int:
    """The memory that the images of a split take."""
    return split.images.nbytes if isinstance(split, TensorSplit) else 0


@contextlib.contextmanager
def moving(dataset: str, device: torch.device | str, needed: int) -> Iterator[None]:
    """A block that moves so many bytes of images to a device. Raises UserError if it is full."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise UserError(
            f"dataset {dataset}: its images need {in_words(needed)} of memory on {device}, "
            f"which has less than that free; {REMEDY}"
        ) from None
