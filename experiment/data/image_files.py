"""Image files in one folder per class: listing and reading them."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from experiment.core.errors import UserError


@dataclass(frozen=True)
class ImageFiles:
    """The image files below a folder, in sorted order, with their labels."""

    folder: Path
    classes: tuple[str, ...]
    paths: tuple[str, ...]
    labels: tuple[int, ...]  # indices of `classes`

    def __len__(self) -> int:
        return len(self.paths)


def list_files(dataset: str, folder: Path, layout: str) -> ImageFiles:
    """The image files in one folder per class. Raises UserError, which ends with `layout`."""
    if not folder.is_dir():
        raise UserError(f"dataset {dataset}: no folder {folder}; {layout}")
    from torchvision.datasets import ImageFolder  # takes seconds to import

    try:
        found = ImageFolder(str(folder))
    except FileNotFoundError as error:
        raise UserError(f"dataset {dataset}: {' '.join(str(error).split())}; {layout}") from None
    paths = tuple(path for path, _ in found.samples)
    return ImageFiles(folder, tuple(found.classes), paths, tuple(found.targets))


def require_same_classes(dataset: str, train: ImageFiles, test: ImageFiles) -> None:
    """Raise UserError unless both folders hold the same classes."""
    different = sorted(set(train.classes) ^ set(test.classes))
    if not different:
        return
    names = ", ".join(different[:10])
    if len(different) > 10:
        names += f" and {len(different) - 10} more"
    raise UserError(
        f"dataset {dataset}: {train.folder} and {test.folder} must hold the same classes; "
        f"only in one of them: {names}"
    )


def read_image(dataset: str, path: str, grayscale: bool = False) -> Tensor:
    """One image as bytes [C, H, W], in its own size. Raises UserError if it cannot be read."""
    from PIL import Image
    from torchvision.transforms.v2.functional import pil_to_tensor

    try:
        with Image.open(path) as file:
            # Converting 16 bits to bytes would clip most values to white.
            if file.mode.startswith("I") or file.mode == "F":
                raise UserError(
                    f"dataset {dataset}: {path} has more than 8 bits a channel; "
                    f"convert it to 8 bits first"
                )
            return pil_to_tensor(file.convert("L" if grayscale else "RGB"))
    # What PIL raises for broken files, depending on the format:
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"dataset {dataset}: {path} is not a readable image: {error}") from None


def centred(image: Tensor, shorter_side: int, size: int) -> Tensor:
    """An image [C, H, W] scaled to a shorter side, and cropped to the central square of a size."""
    from torchvision.transforms.v2.functional import center_crop, resize

    return center_crop(resize(image, [shorter_side], antialias=True), [size, size])
