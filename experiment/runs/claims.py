"""Claims on trained nets that several runs need: one of them trains a net, the others wait."""

import contextlib
import os
import threading
import time
from pathlib import Path

from experiment.core.errors import LockedError, StorageError
from experiment.core.files import remove_leftovers
from experiment.runs.lock import Lock, Owner, holder_of

HEARTBEAT = 15.0  # seconds between two signs of life of an owner
STALE = 90.0  # seconds without one, after which a claim of another host counts no more


class Claims:
    """Claims on results of a store, each a lock in a file beside them.

    A process on another host cannot be asked whether it still runs, so owners change the time of
    their files every now and then. Whoever sees no change for long takes the claim over: at worst
    a net is trained twice. Times are never compared between machines.
    """

    def __init__(self, directory: Path, *, heartbeat: float = HEARTBEAT, stale: float = STALE):
        self.directory = directory
        self.heartbeat = heartbeat
        self.stale = stale
        self._held: dict[str, Lock] = {}
        self._seen: dict[str, tuple[int, float]] = {}  # the time of a file, and when it changed
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, name: str) -> bool:
        """Whether a result may be computed for the owner of these claims: nobody else is at it."""
        if name in self._held:  # and the worker that computed it has died
            return True
        holder = self.holder(name)
        is_stale = self._is_stale(name)  # asked last: the holder is the one who shows no life
        try:
            lock = Lock.take(self._path(name), instead_of=holder if is_stale else None)
        except LockedError:
            return False
        except (OSError, StorageError):  # a claim only saves time: without one, it is computed
            return True
        remove_leftovers(self.directory, f".*{name}.*")
        self._held[name] = lock
        self._seen.pop(name, None)
        if self._thread is None:
            self._thread = threading.Thread(target=self._show_life, daemon=True)
            self._thread.start()
        return True

    def holder(self, name: str) -> Owner | None:
        """Who is about to compute a result; None if nobody is, or the file cannot be read."""
        try:
            return holder_of(self._path(name))
        except (LockedError, OSError):
            return None

    def release(self, name: str) -> None:
        """Give up a claim, if it is held."""
        lock = self._held.pop(name, None)
        if lock is not None:
            with contextlib.suppress(OSError):
                lock.release()

    def tidy(self, name: str) -> None:
        """Remove what is left of the claim of a process that was killed; the result is there."""
        if name not in self._held and self.take(name):
            self.release(name)

    def close(self) -> None:
        """Give up all claims."""
        self._closed.set()
        for name in list(self._held):
            self.release(name)

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.lock"

    def _is_stale(self, name: str) -> bool:
        """Whether the file of a claim has not changed for long, as this process has seen it."""
        try:
            changed = self._path(name).stat().st_mtime_ns
        except OSError:
            return False
        now = time.monotonic()
        if name not in self._seen or self._seen[name][0] != changed:
            self._seen[name] = (changed, now)
        return now - self._seen[name][1] > self.stale

    def _show_life(self) -> None:
        while not self._closed.wait(self.heartbeat):
            for lock in list(self._held.values()):
                with contextlib.suppress(OSError):
                    os.utime(lock.path)
