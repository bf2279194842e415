"""Decoding image files: whatever a file holds ends in an image, or in the reason why not."""

import contextlib
import errno
import functools
import os
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO

from torch import Tensor

from experiment.core.errors import UserError, first_line

if TYPE_CHECKING:
    from PIL.Image import Image

# Reasons of the system's why a file cannot be read that say nothing about the file.
PASSING = {
    errno.EAGAIN,
    errno.EBUSY,
    errno.EINTR,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOBUFS,
    errno.ENOMEM,
    errno.ESTALE,
    errno.ETIMEDOUT,
}
PROGRAMS = ("EPS", "WMF")  # formats that other software would have to execute


class ImageFileError(Exception):
    """A file that is not an image that can be used. The message says why: `is empty`."""


@dataclass(frozen=True)
class Decoder:
    """How image files are decoded: in grey or in colour, and to which size they will be scaled.

    Of an animation, or a file of several pages, the first image counts. Raises ImageFileError;
    OSError or MemoryError where nothing is wrong with the file.
    """

    grayscale: bool = False
    shorter_side: int | None = None  # None: not scaled

    def __call__(self, path: str) -> Tensor:
        """An image as bytes [C, H, W], in its own size."""
        from torchvision.transforms.v2.functional import pil_to_tensor

        with self._opened(path) as file:
            pixels = file.convert("L" if self.grayscale else "RGB")
        return pil_to_tensor(pixels)

    def require_header(self, path: str) -> None:
        """Find what can be found without decoding the pixels."""
        with self._opened(path):
            pass

    def require_whole(self, path: str) -> None:
        """Find everything that decoding the image would find."""
        self(path)

    @contextlib.contextmanager
    def _opened(self, path: str) -> Iterator["Image"]:
        """A block that works with an opened file, and what goes wrong in it as the reason why."""
        image = _pillow()
        try:
            with open(path, "rb", opener=_open_without_waiting) as stream:
                _require_regular(stream)
                with image.open(stream) as file:
                    self._require_usable(file, image.MAX_IMAGE_PIXELS)
                    yield file
        except (ImageFileError, MemoryError):
            raise
        except (image.DecompressionBombError, image.DecompressionBombWarning):
            raise ImageFileError(_too_large(image.MAX_IMAGE_PIXELS)) from None
        except image.UnidentifiedImageError:
            raise ImageFileError(
                "is not a readable image: its content is in no known format"
            ) from None
        except Exception as error:  # damaged files raise nearly anything, depending on the format
            if isinstance(error, OSError) and error.errno in PASSING:
                raise
            raise ImageFileError(_words(error)) from None

    def _require_usable(self, file: "Image", most_pixels: int | None) -> None:
        if file.format in PROGRAMS:
            raise ImageFileError(f"is not a readable image: it is a program ({file.format})")
        # Converting 16 bits to bytes would clip most values to white.
        if file.mode.startswith("I") or file.mode == "F":
            raise ImageFileError("has more than 8 bits a channel; convert it to 8 bits first")
        if most_pixels is None:
            return
        shorter, longer = sorted(file.size)
        if shorter * longer > most_pixels:
            raise ImageFileError(_too_large(most_pixels))
        if self.shorter_side is None or shorter == 0:
            return
        if self.shorter_side * longer * self.shorter_side / shorter > most_pixels:
            raise ImageFileError(
                f"has {file.height}x{file.width} pixels: with a shorter side of "
                f"{self.shorter_side} it would have more than the {most_pixels:,} that are allowed"
            )


def read_image(dataset: str, path: str, decoder: Decoder) -> Tensor:
    """One image as bytes [C, H, W], in its own size. Raises UserError if it cannot be read."""
    try:
        return decoder(path)
    except ImageFileError as error:
        raise unreadable(dataset, path, str(error)) from None
    except (OSError, MemoryError) as error:
        raise cannot_be_read(dataset, path, error) from None


def cannot_be_read(dataset: str, path: str, error: Exception) -> UserError:
    """The mistake that the system cannot read a file, with which nothing is wrong."""
    return UserError(f"dataset {dataset}: {path} cannot be read: {first_line(error)}")


def unreadable(dataset: str, path: str, reason: str, num_others: int = 0) -> UserError:
    """The mistake that a file cannot be read, and perhaps some others."""
    others = f"; {num_others} more cannot be read either" if num_others else ""
    return UserError(
        f"dataset {dataset}: {path} {reason}{others}; "
        f"dataset.skip_unreadable: true leaves such files out"
    )


def centred(image: Tensor, shorter_side: int, size: int) -> Tensor:
    """An image [C, H, W] scaled to a shorter side, and cropped to the central square of a size."""
    from torchvision.transforms.v2.functional import center_crop, resize

    return center_crop(resize(image, [shorter_side], antialias=True), [size, size])


@functools.cache
def _pillow() -> ModuleType:
    """Pillow, which is not to warn of files: those that cannot be used are refused."""
    from PIL import Image

    warnings.filterwarnings("ignore", module=r"PIL\.")
    return Image


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file; a named pipe that has taken its place does not wait for a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _require_regular(stream: BinaryIO) -> None:
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        raise ImageFileError("is not a regular file")


def _too_large(most_pixels: int | None) -> str:
    return f"has more than the {most_pixels:,} pixels that are allowed; scale it down first"


def _words(error: Exception) -> str:
    """What is wrong with a file; the exception's type too if its message alone says little."""
    if isinstance(error, OSError) and error.strerror:  # the system's, not Pillow's
        return f"cannot be read: {error.strerror}"
    if isinstance(error, OSError | SyntaxError | ValueError) and str(error):
        return f"is not a readable image: {' '.join(str(error).split())}"
    return f"is not a readable image: {first_line(error)}"
