"""Read and write files safely."""

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from experiment.core.errors import StorageError

FULL = (errno.ENOSPC, errno.EDQUOT)
LEFTOVERS = (".part", ".right")  # the ends of names of files that are there for a moment only


def write_whole(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Write a file so that it is there whole or, if the process dies, as it was before.

    Unless it is `durable`, it may be damaged if the machine dies within seconds.

    Raises:
        StorageError: if that cannot be done.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    data = content.encode() if isinstance(content, str) else content
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def read_file(path: Path) -> bytes:
    """The bytes of a file. Raises OSError; for a pipe too, of which nobody may write the end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is not a file", str(path))
    return path.read_bytes()


def content_digest(path: Path) -> str:
    """The first digits of the SHA-256 of all that a file holds. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def remove(path: Path) -> None:
    """Delete a file, if there is one. Raises StorageError if that cannot be done."""
    with writing(path):
        path.unlink(missing_ok=True)


def move_aside(path: Path, target: Path) -> Path:
    """Move what lies at a path, if anything, to a target or, where that is taken, beside it.

    Returns where it is. Raises StorageError if it cannot be moved.
    """
    free, number = target, 0
    while os.path.lexists(free):
        number += 1
        free = target.with_name(f"{target.name}.{number}")
    with writing(free), contextlib.suppress(FileNotFoundError):
        free.parent.mkdir(parents=True, exist_ok=True)
        path.rename(free)
    return free


def remove_leftovers(directory: Path, pattern: str = "**/.*") -> None:
    """Delete what processes that were killed have left of files that they were writing."""
    for path in directory.glob(pattern):
        if path.suffix in LEFTOVERS:
            with contextlib.suppress(OSError):
                path.unlink()


def append(path: Path, text: str) -> None:
    """Write a text at the end of a file. Raises StorageError if that cannot be done."""
    with writing(path):
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(text)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """A block that writes a file, and raises StorageError if that cannot be done."""
    try:
        yield
    except OSError as error:
        advice = "free some space" if error.errno in FULL else "see that it can be written"
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}; {advice}, and run the same command "
            f"again to go on"
        ) from error
