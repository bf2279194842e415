"""Logger: what a run tells people, on the console and in log.txt."""

import datetime
import sys
from pathlib import Path
from typing import TextIO

import tqdm

from experiment.core.files import append
from experiment.core.text import visible_lines


class Logger:
    """Writes lines to the console and, with the time, to log.txt in the directory of a run."""

    def __init__(self, directory: Path):
        self.path = directory / "log.txt"

    def say(self, text: str) -> None:
        """Write a line to the console and to the log."""
        self._print(text, sys.stdout)
        self.note(text)

    def warn(self, text: str) -> None:
        """Write a line about something wrong that stops nothing."""
        self._print(text, sys.stderr)
        self.note(text)

    def error(self, text: str, details: str) -> None:
        """Write a failure: one line to the console, its details to the log too."""
        self._print(text, sys.stderr)
        self.note(f"{text}\n{details}")

    def note(self, text: str) -> None:
        """Write something to the log alone."""
        now = datetime.datetime.now().isoformat(sep=" ", timespec="seconds")
        append(self.path, f"{now} {visible_lines(text)}\n")

    def _print(self, text: str, stream: TextIO) -> None:
        tqdm.tqdm.write(visible_lines(text), file=stream)
