"""Commands that run in processes of their own, and how they have ended.

Most are forked from this process, which has imported everything and done an experiment already, so
that they take a second. They do what `python -m experiment.main` does.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from experiment.core import console, signals
from experiment.main import main

ROOT = Path(__file__).parents[2]
PATIENCE = 240.0  # seconds; nothing that is done here takes so long
PAUSE = 0.003
NAMES = {number: signal.Signals(number).name for number in (2, 1, 15, 9)}


@dataclass(frozen=True)
class Ended:
    """How a command has ended."""

    code: int  # minus the number of the signal that killed it
    out: str
    err: str
    at: float  # by the monotonic clock
    in_time: bool = True

    def problems(self, code: int = 0) -> list[str]:
        """What is wrong with it, if that exit code was expected."""
        found = [] if self.code == code else [f"exit code {self.code}, not {code}: {self.err!r}"]
        if not self.in_time:
            found = [f"hangs; {self.err!r}"]
        if "Traceback" in self.err + self.out:
            found.append(f"a traceback: {(self.err + self.out)[-1500:]}")
        return found


class Command:
    """A command that runs."""

    def __init__(self, process: int, outputs: Path):
        self.process = process
        self.outputs = outputs

    @classmethod
    def forked(
        cls,
        arguments: Sequence[str],
        outputs: Path,
        prepare: Callable[[], object] = lambda: None,
    ) -> "Command":
        """Fork a process that executes a command, after `prepare`."""
        outputs.mkdir(parents=True, exist_ok=True)
        sys.stdout.flush()
        sys.stderr.flush()
        process = os.fork()
        if not process:
            _execute(arguments, outputs, prepare)
        return cls(process, outputs)

    @classmethod
    def started(cls, arguments: Sequence[str], outputs: Path) -> "Command":
        """Start a command as people do."""
        outputs.mkdir(parents=True, exist_ok=True)
        with (outputs / "out").open("w") as out, (outputs / "err").open("w") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "experiment.main", *arguments],
                cwd=ROOT,
                stdout=out,
                stderr=err,
                preexec_fn=_heed_signals,
            )
        process.returncode = 0  # `wait` waits for it
        return cls(process.pid, outputs)

    def signal(self, number: int) -> float:
        """Send a signal, and return when."""
        now = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process, number)
        return now

    def wait(self, patience: float = PATIENCE) -> Ended:
        """Wait for the end; kill what does not end."""
        limit = time.monotonic() + patience
        in_time = True
        while not (ended := os.waitpid(self.process, os.WNOHANG))[0]:
            if time.monotonic() > limit:
                in_time = False
                os.kill(self.process, signal.SIGKILL)
                ended = os.waitpid(self.process, 0)
                break
            time.sleep(PAUSE)
        now = time.monotonic()
        out, err = ((self.outputs / name).read_text(errors="replace") for name in ("out", "err"))
        return Ended(os.waitstatus_to_exitcode(ended[1]), out, err, now, in_time)


def _execute(arguments: Sequence[str], outputs: Path, prepare: Callable[[], object]) -> NoReturn:
    """What a forked process does."""
    code = 70
    try:
        _heed_signals()
        for name, number in (("out", 1), ("err", 2)):
            file = os.open(outputs / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            os.dup2(file, number)
            os.close(file)
        signals.install()
        prepare()
        console.tolerate_closed_output()
        code = main(list(arguments))
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 71
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _heed_signals() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
