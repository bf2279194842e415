"""Image files in one folder a class: listing and reading them."""

from pathlib import Path

import torchvision.datasets
import torchvision.transforms.v2.functional as transform
from PIL import Image
from torch import Tensor

from experiment.core.errors import UserError

Listed = torchvision.datasets.ImageFolder


def list_files(dataset: str, folder: Path, layout: str) -> Listed:
    """The files and classes of a folder in sorted order. Raises UserError, which tells the `layout` expected."""
    if not folder.is_dir():
        raise UserError(f"dataset {dataset}: no folder {folder}; {layout}")
    try:
        return Listed(str(folder))
    except FileNotFoundError as error:
        raise UserError(f"dataset {dataset}: {' '.join(str(error).split())}; {layout}") from None


def require_same_classes(dataset: str, train: Listed, test: Listed) -> None:
    """Raise UserError unless both folders hold the same classes."""
    if train.classes != test.classes:
        different = sorted(set(train.classes) ^ set(test.classes))
        names = ", ".join(different[:10]) + (
            f" and {len(different) - 10} more" if len(different) > 10 else ""
        )
        raise UserError(
            f"dataset {dataset}: {train.root} and {test.root} must hold the same classes; "
            f"only in one of them: {names}"
        )


def read_image(dataset: str, path: str, grayscale: bool = False) -> Tensor:
    """One image as bytes [C, H, W], in its own size. Raises UserError for a file that is none."""
    try:
        with Image.open(path) as file:
            if (
                file.mode.startswith("I") or file.mode == "F"
            ):  # which a conversion to bytes would cut off at white
                raise UserError(
                    f"dataset {dataset}: {path} has more than 8 bits a channel; convert it to 8 bits first"
                )
            return transform.pil_to_tensor(file.convert("L" if grayscale else "RGB"))
    except (
        OSError,
        SyntaxError,
        ValueError,
    ) as error:  # what PIL raises for broken files of various formats
        raise UserError(f"dataset {dataset}: {path} is not a readable image: {error}") from None


def centred(image: Tensor, shorter_side: int, size: int) -> Tensor:
    """An image [C, H, W] scaled to a length of its shorter side, and cut to the central square of a size."""
    return transform.center_crop(
        transform.resize(image, [shorter_side], antialias=True), [size, size]
    )
