"""Digests of the files of a data set, the same wherever they lie and whenever they were written."""

import errno
import functools
import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from experiment.core.dependencies import Dependencies, Dependency, Kind
from experiment.data.image_checks import in_threads
from experiment.data.image_files import ImageFiles, images_by_class


@dataclass(frozen=True)
class ListedFile:
    """A file of a data set; `name` is its path in the data set's folder."""

    name: bytes
    path: str
    size: int | None  # None: it cannot be read, or it is no regular file


def image_dependencies(
    root: Path, splits: Iterable[str], verify: bool, skipping: Iterable[ImageFiles] = ()
) -> Dependencies:
    """What images in `root/<split>/<class>/` depend on: their names and sizes; contents if asked.

    Nothing if a split is missing, since the data set will refuse that. `skipping` are the splits of
    a data set that leaves out what cannot be read.

    Raises:
        OSError: if what is there cannot be listed, which may pass, and would look like other files.
    """
    return _all_images(root, splits, verify) + _left_out(root, skipping)


def _all_images(root: Path, splits: Iterable[str], verify: bool) -> Dependencies:
    try:
        files = _listed_images(root, splits)
    except ValueError:  # no folder can have that name
        return ()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return ()
        raise
    description = f"the images in {root}"
    found = Dependency(Kind.FILES, "images", _digest(map(_name_and_size, files)), description)
    if not verify:
        return (found,)
    contents = _digest(in_threads(_content, files))
    return found, Dependency(Kind.CONTENTS, "images", contents, description)


def _left_out(root: Path, splits: Iterable[ImageFiles]) -> Dependencies:
    """Which images are left out because they cannot be read; nothing if none are.

    A file may become unreadable without another size, and then the other images are split anew.
    """
    paths = [one.path for files in splits for one in files.unreadable]
    if not paths:
        return ()
    digest = _digest(sorted(os.fsencode(os.path.relpath(path, root)) for path in paths))
    return (Dependency(Kind.FILES, "left out", digest, f"the images left out of {root}"),)


def content_dependency(folder: Path, names: Iterable[str]) -> Dependency:
    """What a few files of a folder depend on: all that they hold. Raises OSError."""
    contents = (name.encode() + b"\0" + _sha256(folder / name) for name in sorted(names))
    return Dependency(Kind.FILES, "files", _digest(contents), f"the files in {folder}")


def _listed_images(root: Path, splits: Iterable[str]) -> list[ListedFile]:
    """The images of all classes of all splits, sorted by name. Raises OSError."""
    files: list[ListedFile] = []
    for split in splits:
        listed = functools.partial(_listed, split, len(str(root / split)))
        for of_class in images_by_class(root / split, listed).values():
            files += of_class
    return sorted(files, key=lambda file: file.name)


def _listed(split: str, length: int, entry: os.DirEntry[str]) -> ListedFile:
    """A file of a split whose folder's path has that length."""
    inside = entry.path[length:].replace(os.sep, "/")
    return ListedFile(os.fsencode(f"{split}{inside}"), entry.path, _size(entry))


def _size(entry: os.DirEntry[str]) -> int | None:
    try:
        status = entry.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):  # a link to nothing
            return None
        raise
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _name_and_size(file: ListedFile) -> bytes:
    return file.name + f"\0{file.size}".encode()


def _content(file: ListedFile) -> bytes:
    """The name and a digest of what a file holds, if it can be read."""
    try:
        return file.name + b"\0" + (b"" if file.size is None else _sha256(Path(file.path)))
    except OSError:
        return file.name + b"\0"


def _sha256(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _digest(records: Iterable[bytes]) -> str:
    """A digest of records, none of which can be taken for parts of others."""
    content = hashlib.sha256()
    for record in records:
        content.update(len(record).to_bytes(8, "big") + record)
    return content.hexdigest()[:16]
