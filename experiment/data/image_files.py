"""Image files in one folder per class: which there are, and which of them cannot even be opened."""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from experiment.core.errors import UserError

Described = TypeVar("Described")


class Unreadable(NamedTuple):
    """An image file that cannot be read, and why: `is empty`."""

    path: str
    reason: str


@dataclass(frozen=True)
class ImageFiles:
    """The image files below a folder, in sorted order, with their labels.

    `state` is a digest of all names, sizes and times of change: what has been found out about
    files of this state still holds.
    """

    folder: Path
    classes: tuple[str, ...]
    paths: tuple[str, ...]
    labels: tuple[int, ...]  # indices of `classes`
    unreadable: tuple[Unreadable, ...]  # not among `paths`
    state: str

    def __len__(self) -> int:
        return len(self.paths)

    def without(self, reasons: tuple[str | None, ...]) -> "ImageFiles":
        """The files without those for which there is a reason why they cannot be read."""
        kept = [index for index, reason in enumerate(reasons) if reason is None]
        found = [Unreadable(path, reason) for path, reason in zip(self.paths, reasons) if reason]
        return replace(
            self,
            paths=tuple(self.paths[index] for index in kept),
            labels=tuple(self.labels[index] for index in kept),
            unreadable=tuple(sorted([*self.unreadable, *found], key=_place)),
        )


class _Listed(NamedTuple):
    """A file with the name of an image, whatever it is."""

    path: str
    reason: str | None  # why it cannot be read
    state: str


def list_files(dataset: str, folder: Path, layout: str) -> ImageFiles:
    """The image files in one folder per class; files and folders that are hidden do not count.

    Nothing is opened. Raises UserError, which ends with `layout`, unless there are classes and each
    has files.
    """
    if not os.path.isdir(folder):
        raise UserError(f"dataset {dataset}: no folder {folder}; {layout}")
    try:
        by_class = images_by_class(folder, lambda entry: _listed(entry.path))
    except OSError as error:
        raise UserError(f"dataset {dataset}: {error.filename} {_words(error)}; {layout}") from None
    if not by_class:
        raise UserError(f"dataset {dataset}: cannot find any class folder in {folder}; {layout}")
    _require_images(dataset, folder, by_class, layout)
    return _image_files(folder, by_class)


def images_by_class(
    folder: Path, describe: Callable[[os.DirEntry[str]], Described]
) -> dict[str, list[Described]]:
    """What there is to say of each image, by class; the classes are sorted, the images are not.

    Files and folders that are hidden do not count. Raises OSError.
    """
    classes = _classes(folder)
    with ThreadPoolExecutor() as pool:
        by_class = pool.map(
            lambda name: [describe(entry) for entry in _images_below(os.path.join(folder, name))],
            classes,
        )
        return dict(zip(classes, by_class))


def require_same_classes(dataset: str, train: ImageFiles, test: ImageFiles) -> None:
    """Raise UserError unless both folders hold the same classes."""
    of_train, of_test = set(train.classes), set(test.classes)
    if of_train == of_test:
        return
    differences = [
        f"only in {split.folder.name}: {_some(sorted(only))}"
        for split, only in ((train, of_train - of_test), (test, of_test - of_train))
        if only
    ]
    raise UserError(
        f"dataset {dataset}: {train.folder} and {test.folder} must hold the same classes; "
        f"{'; '.join(differences)}"
    )


def _classes(folder: Path) -> list[str]:
    """The names of the class folders, sorted. Raises OSError."""
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    # A link to nothing may have been meant as a class: `os.stat` fails.
    return [name for name in names if stat.S_ISDIR(os.stat(folder / name).st_mode)]


def _images_below(folder: str, above: tuple[str, ...] = ()) -> Iterator[os.DirEntry[str]]:
    """The images in a folder and in those inside it, which may be links. Raises OSError."""
    from torchvision.datasets.folder import IMG_EXTENSIONS  # takes seconds to import

    real = os.path.realpath(folder)
    if real in above:
        raise OSError(errno.ELOOP, "", folder)
    for entry in list(os.scandir(folder)):
        if entry.name.startswith("."):
            continue
        if _is_folder(entry):
            yield from _images_below(entry.path, (*above, real))
        elif entry.name.lower().endswith(IMG_EXTENSIONS):
            yield entry


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads back to itself
        return False


def _listed(path: str) -> _Listed:
    try:
        status = os.stat(path)
    except OSError as error:
        return _Listed(path, _words(error), "")
    return _Listed(path, _reason(path, status), f"{status.st_size} {status.st_mtime_ns}")


def _reason(path: str, status: os.stat_result) -> str | None:
    """Why a file cannot be read, as far as that can be told without opening it."""
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file: opening it could take forever"
    if status.st_size == 0:
        return "is empty"
    if not os.access(path, os.R_OK):
        return "cannot be read: Permission denied"
    return None


def _words(error: OSError) -> str:
    """What is wrong with a file or folder."""
    if error.errno == errno.ELOOP:
        return "is a link that leads back to itself"
    if error.errno == errno.ENOENT and os.path.islink(error.filename):
        return "is a link to nothing"
    return f"cannot be read: {error.strerror}"


def _require_images(
    dataset: str, folder: Path, by_class: Mapping[str, list[_Listed]], layout: str
) -> None:
    from torchvision.datasets.folder import IMG_EXTENSIONS

    empty = [name for name, found in by_class.items() if not found]
    if empty:
        raise UserError(
            f"dataset {dataset}: no images in these class folders of {folder}: {_some(empty)} "
            f"(images end in {', '.join(IMG_EXTENSIONS)}); {layout}"
        )


def _image_files(folder: Path, by_class: Mapping[str, list[_Listed]]) -> ImageFiles:
    in_order = [sorted(found, key=_place) for found in by_class.values()]
    listed = [one for found in in_order for one in found]
    state = hashlib.sha256()
    for one in listed:
        state.update(f"{one.path}\0{one.state}\0".encode(errors="surrogateescape"))
    everything = ImageFiles(
        folder,
        tuple(by_class),
        tuple(one.path for one in listed),
        tuple(label for label, found in enumerate(in_order) for _ in found),
        unreadable=(),
        state=state.hexdigest(),
    )
    return everything.without(tuple(one.reason for one in listed))


def _place(file: Unreadable | _Listed) -> tuple[str, str]:
    """By what files are sorted: their folder, then their name."""
    return os.path.split(file.path)


def _some(names: list[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more
