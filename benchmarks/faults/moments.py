"""Moments of an experiment at which something may happen to its process.

A process is prepared when it is forked: by an audit hook, which Python calls before it opens,
renames or deletes a file, and by functions in the place of those that begin a phase. The package
knows nothing of it.
"""

import functools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import experiment.commands.run
import experiment.runs.execution
import experiment.runs.live
import experiment.runs.run
from benchmarks.faults.commands import Command
from experiment.core import files
from experiment.pruning.pruner import Pruner
from experiment.training.session import Session

Counts = dict[str, Any]  # how often each kind of moment comes; and the seconds of it all

FILE_EVENTS = ("open", "os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir")
PHASES = {
    "loading": (experiment.runs.run, "load_data"),
    "training": (Session, "step"),
    "pruning": (Pruner, "prune"),
    "evaluating": (experiment.runs.execution, "has_constant_output"),
    "summary": (experiment.runs.live, "write_summary"),
    "figures": (experiment.runs.live, "write_plots"),
    "sweep tables": (experiment.commands.run, "collect_sweep"),
}
FILE_EVENT = "file event"  # right before it
TORN = "file half written"
TIME = "any time"
KINDS = [*PHASES, FILE_EVENT, TORN]
LONGEST_DELAY = 0.08  # seconds after the beginning of a phase


@dataclass(frozen=True)
class Moment:
    """The `number`-th moment of a kind, counted from 0, and what happens then."""

    kind: str
    number: int
    signal: int = signal.SIGKILL
    delay: float = 0.0  # seconds after it
    share: float = 0.5  # of a file, which is written till then

    def prepare(self, results: Path, told: Path) -> None:
        """Let this process receive the signal at this moment; it writes when into `told`."""

        def strike() -> None:
            if self.delay:
                threading.Timer(self.delay, _send, [self.signal, told]).start()
            else:
                _send(self.signal, told)

        count = 0

        def happened(kind: str, file: int | None) -> None:
            nonlocal count
            if kind != self.kind:
                return
            count += 1
            if count == self.number + 1:
                if file is not None:
                    os.truncate(file, int(os.fstat(file).st_size * self.share))
                strike()

        _watch(results, happened)


def _send(number: int, told: Path) -> None:
    told.write_text(str(time.monotonic()))
    os.kill(os.getpid(), number)


def _watch(results: Path, happened: Callable[[str, int | None], None]) -> None:
    """Let a function be called at each moment of this process."""
    inside = str(results)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in FILE_EVENTS or not isinstance(arguments[0], str | os.PathLike):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        if os.fspath(arguments[0]).startswith(inside):
            happened(FILE_EVENT, None)

    sys.addaudithook(hook)
    fsync = os.fsync

    def torn(file: int) -> None:
        happened(TORN, file)
        fsync(file)

    files.os.fsync = torn
    for kind, (place, name) in PHASES.items():
        setattr(place, name, _announced(getattr(place, name), kind, happened))


def _announced(function: Callable, kind: str, happened: Callable[[str, None], None]) -> Callable:
    @functools.wraps(function)
    def announced(*arguments: Any, **options: Any) -> Any:
        happened(kind, None)
        return function(*arguments, **options)

    return announced


def count_moments(arguments: Sequence[str], results: Path, folder: Path) -> Counts:
    """Run a command undisturbed, and count its moments."""
    told = folder / "counts"

    def prepare() -> None:
        counts = dict.fromkeys(KINDS, 0)
        start = time.monotonic()

        def happened(kind: str, file: int | None) -> None:
            counts[kind] += 1

        _watch(results, happened)
        leave = os._exit

        def tell(code: int) -> None:
            told.write_text(json.dumps({**counts, "seconds": time.monotonic() - start}))
            leave(code)

        os._exit = tell

    problems = Command.forked(arguments, folder, prepare).wait().problems()
    assert not problems, problems
    return json.loads(told.read_text())
