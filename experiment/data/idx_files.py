"""The files of MNIST and FashionMNIST, in IDX format: the published ones, or the user's own.

torchvision verifies what it downloads, but reads whatever is already there. So files that are there
are checked and counted here, by their headers and labels, before anything else is done.
"""

import contextlib
import gzip
import hashlib
import math
import os.path
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy
import torch
from torch import Tensor

from experiment.core.dependencies import Dependencies
from experiment.core.errors import UserError
from experiment.data.downloads import packed_files
from experiment.data.file_digests import content_dependency

SIDE = 28  # height and width of an image
NUM_CLASSES = 10
PUBLISHED_TRAIN = 60_000  # the number of training images
PUBLISHED_TEST = 10_000
UNSIGNED_BYTES = 0x800  # how an IDX file of them begins, the number of dimensions added
TRAIN = "train"  # with this the names of the training files begin,
TEST = "t10k"  # and with this those of the test files

PUBLISHED = {  # md5 of the unpacked files; torchvision knows those of the packed ones
    "MNIST": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "FashionMNIST": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}


@dataclass(frozen=True)
class IdxFiles:
    """The four unpacked files of a data set of torchvision's in `root/<its name>/raw`."""

    dataset: str
    root: str

    @property
    def published(self) -> dict[str, str]:
        """The names of the four files, with the md5 of the published ones."""
        return PUBLISHED[self.dataset]

    @cached_property
    def folder(self) -> Path:
        return Path(self.root).expanduser() / self.dataset / "raw"

    def counts(self) -> tuple[int, int] | None:
        """The numbers of training and of test images; None if torchvision has yet to download them.

        Raises UserError for files that are broken or do not fit together, and for files of the
        user's own that a download would replace.
        """
        missing = [name for name in self.published if not os.path.isfile(self.folder / name)]
        if not missing:
            return self._count(TRAIN), self._count(TEST)
        self._require_nothing_own(missing)
        return None

    def note(self, counts: tuple[int, int] | None) -> str | None:
        """A line for the log if the files that are there are not the published ones.

        `counts` are the numbers of images, as `counts` gives them.
        """
        if counts is None:
            return None
        other = self._others()
        if not other:
            return None
        num_train, num_test = counts
        return (
            f"dataset {self.dataset}: {num_train:,} training and {num_test:,} test images in "
            f"{self.folder}, not the published ones (by the md5 of {', '.join(other)})"
        )

    def dependencies(self) -> Dependencies:
        """The files, if they are sound and not the published ones. Raises UserError or OSError."""
        if self.counts() is None or not self._others():
            return ()
        return (content_dependency(self.folder, self.published),)

    def _others(self) -> list[str]:
        """The names of those files that are not the published ones."""
        return [name for name in self.published if not self._is_published(name)]

    def read(self, split: str) -> tuple[Tensor, Tensor]:
        """Images as bytes [N, 1, 28, 28] and labels [N] of a split: TRAIN or TEST."""
        images, labels = (self._values(name) for name in _names(split))
        return images.reshape(-1, 1, SIDE, SIDE), labels.long()

    def _count(self, split: str) -> int:
        """The number of images of a split. Raises UserError unless both its files are sound."""
        images, labels = _names(split)
        count, *size = self._dimensions(images)
        if size != [SIDE, SIDE]:
            raise self._refusal(
                images, f"holds images of {size[0]}x{size[1]} pixels", f"{SIDE}x{SIDE}"
            )
        if count == 0:
            raise self._refusal(images, "holds no images", "at least one")
        if self._dimensions(labels) != (count,):
            raise self._refusal(
                labels,
                f"holds {self._dimensions(labels)[0]} labels",
                f"{count}, one for each image of {images}",
            )
        largest = int(self._values(labels).max())
        if largest >= NUM_CLASSES:
            raise self._refusal(
                labels, f"holds the label {largest}", f"labels 0 to {NUM_CLASSES - 1}"
            )
        return count

    def _dimensions(self, name: str) -> tuple[int, ...]:
        """What a file's header says; UserError unless the file is as long as that asks for."""
        with self._reading(name) as path, path.open("rb") as file:
            header = file.read(_header_size(name))
            size = path.stat().st_size
        first = struct.pack(">I", UNSIGNED_BYTES + _rank(name))
        if len(header) < _header_size(name):
            raise self._refusal(
                name, f"ends after {size} bytes", f"a header of {_header_size(name)} bytes"
            )
        if header[:4] != first:
            raise self._refusal(
                name, f"begins with the bytes '{header[:4].hex(' ')}'", f"'{first.hex(' ')}'"
            )
        dimensions = struct.unpack(f">{_rank(name)}I", header[4:])
        expected = _header_size(name) + math.prod(dimensions)
        if size != expected:
            raise self._refusal(name, f"has {size} bytes", f"the {expected} that its header states")
        return dimensions

    def _values(self, name: str) -> Tensor:
        """All bytes after the header."""
        with self._reading(name) as path:
            values = numpy.fromfile(path, numpy.uint8, offset=_header_size(name))
        return torch.from_numpy(values)

    def _require_nothing_own(self, missing: list[str]) -> None:
        """Raise UserError for files of the user's own, which a download would overwrite."""
        for name in self.published:
            if name not in missing and not self._is_published(name):
                raise self._refusal(
                    missing[0],
                    f"is missing, while {name} is there and not the published one",
                    "all four",
                )
        for name, md5 in self._packed():
            path = self.folder / name
            if _is_whole_gzip(path) and _md5(path) != md5:
                raise UserError(
                    f"dataset {self.dataset}: {path} is not the published file, whose md5 is "
                    f"{md5}; unpack it and the others to use images of your own, or delete it"
                )

    def _packed(self) -> list[tuple[str, str]]:
        """The names and published md5 of the packed files, if any of them may be there."""
        if not any(self.folder.glob("*.gz")):
            return []
        return packed_files(self.dataset)

    def _is_published(self, name: str) -> bool:
        with self._reading(name) as path:
            return _md5(path) == self.published[name]

    @contextlib.contextmanager
    def _reading(self, name: str) -> Iterator[Path]:
        try:
            yield self.folder / name
        except OSError as error:
            raise self._refusal(name, f"cannot be read ({error.strerror})", "an IDX file") from None

    def _refusal(self, name: str, found: str, expected: str) -> UserError:
        return UserError(
            f"dataset {self.dataset}: {self.folder / name} {found}; expected {expected}, or the "
            f"published file, whose md5 is {self.published[name]} when unpacked"
        )


def _names(split: str) -> tuple[str, str]:
    """The names of a split's files of images and labels."""
    return f"{split}-images-idx3-ubyte", f"{split}-labels-idx1-ubyte"


def _rank(name: str) -> int:
    """The number of dimensions."""
    return 3 if "idx3" in name else 1


def _header_size(name: str) -> int:
    return 4 * (1 + _rank(name))


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _is_whole_gzip(path: Path) -> bool:
    """Whether it is there and can be unpacked, unlike what a stopped download leaves."""
    try:
        with gzip.open(path) as file:
            while file.read(2**20):
                pass
    except (OSError, EOFError, zlib.error):
        return False
    return True
