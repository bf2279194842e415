"""Write files safely."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from experiment.core.errors import StorageError

FULL = (errno.ENOSPC, errno.EDQUOT)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that it is there whole or, if the process dies, as it was before.

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
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


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
