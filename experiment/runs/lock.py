"""The lock of a run directory: only one process writes its results.

It is a file that names its owner, not a lock of the operating system, which several of the file
systems of clusters do not offer between machines. A process that is killed leaves it behind.
"""

import contextlib
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from experiment.core import signals
from experiment.core.errors import LockedError, StorageError
from experiment.core.files import read_file, remove_leftovers, writing

NAME = "run.lock"
ATTEMPTS = 100  # others may take and release the lock meanwhile
PAUSE = 0.02  # seconds


@dataclass(frozen=True)
class Owner:
    """The process that holds a lock."""

    host: str
    process: int
    started: int | None  # clock ticks since the boot; None where the system does not tell
    since: str  # when it took the lock, for people
    token: str  # no two locks have the same

    @classmethod
    def current(cls) -> "Owner":
        """This process, now."""
        since = time.strftime("%Y-%m-%d %H:%M:%S %Z")
        started = start_of(os.getpid())
        return cls(socket.gethostname(), os.getpid(), started, since, uuid.uuid4().hex)

    @property
    def is_here(self) -> bool:
        return self.host == socket.gethostname()

    @property
    def is_running(self) -> bool:
        """Whether the process, on this host, still runs; its number may be another one's by now."""
        if os.name == "nt":  # where a signal would end it
            return True
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # that of another user
            pass
        return start_of(self.process) == self.started

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, since {self.since}"


def start_of(process: int) -> int | None:
    """When a process of this host has started, in clock ticks since the boot, on Linux.

    None elsewhere, or if it has ended, even where its parent has not noticed yet.
    """
    try:
        after_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if after_name[0] in "ZX" else int(after_name[19])


@dataclass(frozen=True)
class Lock:
    """A lock that this process has taken."""

    path: Path
    owner: Owner

    @classmethod
    def take(cls, path: Path, *, instead_of: Owner | None = None) -> "Lock":
        """Take the lock in a file, whose directory is made if need be.

        The lock of a process of this host that runs no more is taken over. So is that of the owner
        `instead_of`, but not that of a third process that was faster to take it over.

        Raises:
            LockedError: if another process holds the lock.
        """
        own = Owner.current()
        for _ in range(ATTEMPTS):
            if _create(path, own):
                return cls(path, own)
            holder = holder_of(path)
            if holder is not None:
                if holder != instead_of:
                    _check(holder, path.parent)
                _remove(path, holder, by=own)
        raise LockedError(f"{path} could not be taken; delete it if no process uses it")

    def check(self) -> None:
        """Raise LockedError if another process has taken the lock over, or it was deleted."""
        holder = holder_of(self.path)
        if holder is None:
            raise LockedError(f"{self.path} was deleted, so other processes may write there too")
        if holder != self.owner:
            raise LockedError(f"{self.path.parent} was taken over by {holder}")

    def release(self) -> None:
        """Remove the lock, unless it is somebody else's by now."""
        with contextlib.suppress(LockedError, OSError):  # damaged, or on a disk that is read-only
            try:
                _remove(self.path, self.owner, by=self.owner)
            except StorageError:  # on a full disk; nobody else removes the lock of who still runs
                if holder_of(self.path) == self.owner:
                    self.path.unlink()


@contextlib.contextmanager
def locked(directory: Path, *, take_over: bool = False) -> Iterator[Lock]:
    """A block in which this process alone writes to a run directory.

    The directory is made, and is gone afterwards if nothing was written to it. What a process that
    was killed has left half written there is deleted. The lock of another host is taken over only
    with `take_over`, for nothing here can tell whether its owner runs.

    Raises:
        LockedError: if another process holds the lock.
        StorageError: if the lock cannot be written.
    """
    missing = [one for one in (directory, *directory.parents) if not one.exists()]
    path = directory / NAME
    holder = holder_of(path) if take_over else None
    elsewhere = None if holder is None or holder.is_here else holder
    lock = Lock.take(path, instead_of=elsewhere)
    try:
        with signals.orderly():
            remove_leftovers(directory)
            yield lock
    finally:
        lock.release()
        with contextlib.suppress(OSError):  # not empty, or already gone
            for one in missing:
                one.rmdir()


def _check(holder: Owner, directory: Path) -> None:
    """Raise LockedError unless that owner of a lock has ended, as far as this host can tell."""
    if holder.is_here:
        if not holder.is_running:
            return
        advice = "wait until it ends, or stop it"
    else:
        advice = "if it runs no more, add --take-over"
    raise LockedError(f"{directory} is in use by {holder}; {advice}")


def _create(path: Path, owner: Owner) -> bool:
    """Create the lock with all that it says, unless there is one."""
    temporary = path.with_name(f".{path.name}.{owner.token}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(asdict(owner)))
        _link(temporary, path)
    except (FileExistsError, FileNotFoundError):  # or another process has removed the directory
        return False
    except OSError as error:
        with writing(path):
            raise error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return True


def _link(file: Path, path: Path) -> None:
    """Give a file another name. Raises FileExistsError if that is taken."""
    try:
        os.link(file, path)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:  # the file system has no links
        text = file.read_text()  # first: nothing is made if another process has just deleted it
        with path.open("x") as copy:
            copy.write(text)


def holder_of(path: Path) -> Owner | None:
    """The owner of the lock; None if there is no lock any more."""
    try:
        return Owner(**json.loads(read_file(path)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, RecursionError):
        raise LockedError(f"{path} is damaged; delete it if no process uses the run") from None


def _remove(path: Path, owner: Owner, *, by: Owner) -> None:
    """Remove the lock if it is still that of its owner.

    Several processes may find the same dead owner. Only the one that has the right to remove that
    lock does, so that none removes the next one. The right is a lock, too: that of a process that
    was killed before it had removed anything is removed in the same way.
    """
    right = path.with_name(f".{path.name}.{owner.token}.right")
    if not _create(right, by):
        other = holder_of(right)
        if other is None:  # the right is given back, or the directory is gone
            return
        if other == owner or (other.is_here and not other.is_running):
            _remove(right, other, by=by)
        else:
            time.sleep(PAUSE)
        return
    try:
        if holder_of(path) == owner:
            path.unlink()
    finally:
        right.unlink(missing_ok=True)
