"""Data sets that torchvision downloads."""

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy

from experiment.core.errors import UserError


class Opened(Protocol):
    """What is used here of an opened data set; torchvision ships no types."""

    data: numpy.ndarray
    targets: list[int]


class Archive(Protocol):
    """A class of torchvision's whose data set is a single file, such as CIFAR10."""

    url: str
    filename: str
    tgz_md5: str

    def __call__(self, root: str, *, train: bool, download: bool) -> Opened: ...


@runtime_checkable
class MirroredFiles(Protocol):
    """A class of torchvision's whose data set is several files on each mirror, such as MNIST."""

    mirrors: list[str]
    resources: list[tuple[str, str]]  # the name of each file and its md5

    def __call__(self, root: str, *, train: bool, download: bool) -> Opened: ...


def torchvision_class(name: str) -> Archive | MirroredFiles:
    """torchvision's class of a data set; imported here, since torchvision takes seconds."""
    import torchvision.datasets

    return getattr(torchvision.datasets, name)


def packed_files(name: str) -> list[tuple[str, str]]:
    """The name and md5 of each file that torchvision downloads for a data set."""
    source = torchvision_class(name)
    if isinstance(source, MirroredFiles):
        return source.resources
    return [(source.filename, source.tgz_md5)]


def open_or_download(name: str, root: str, train: bool) -> Opened:
    """torchvision's data set in `root`, downloaded if it is not there.

    Raises UserError, which says how to get the files by hand.
    """
    try:
        return torchvision_class(name)(root, train=train, download=True)
    except Exception as error:  # torchvision and the network below it raise many kinds
        raise UserError(_no_download(name, root, error)) from None


def _no_download(name: str, root: str, error: Exception) -> str:
    """What was tried, which file to put where by hand, and what runs without it."""
    addresses, files, folder = _published(name, root)
    return (
        f"dataset {name}: not found in {root}/ and could not be downloaded "
        f"({type(error).__name__}: {' '.join(str(error).split())}); "
        f"tried {', '.join(addresses)}. "
        f"To get it by hand, put {', '.join(files)} into {folder}/. To do without it: "
        f"--set dataset.name=digits needs no download, and "
        f"--set dataset.name=ImageFolder --set dataset.root=FOLDER takes images from "
        f"FOLDER/train/<class>/ and FOLDER/test/<class>/"
    )


def _published(name: str, root: str) -> tuple[list[str], list[str], Path]:
    """The addresses and names of a data set's files, and the folder where torchvision looks."""
    source = torchvision_class(name)
    files = [file for file, _ in packed_files(name)]
    if not isinstance(source, MirroredFiles):
        return [source.url], files, Path(root)
    addresses = [mirror + file for mirror in source.mirrors for file in files]
    return addresses, files, Path(root) / name / "raw"
