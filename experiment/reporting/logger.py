"""Logger: what a run says, on the console and in log.txt."""

import datetime
import sys
import time
from pathlib import Path
from typing import Any

import tqdm


class Logger:
    """Lines on the console, which log.txt in the run's directory keeps with their times."""

    def __init__(self, directory: Path):
        self.path = directory / "log.txt"

    def say(self, text: str) -> None:
        """One line on the console and in the log."""
        tqdm.tqdm.write(text)
        self.note(text)

    def error(self, text: str, details: str) -> None:
        """A failure: one line on the console, all of it in the log."""
        tqdm.tqdm.write(text, file=sys.stderr)
        self.note(f"{text}\n{details}")

    def note(self, text: str) -> None:
        """Something for the log alone."""
        now = datetime.datetime.now().isoformat(sep=" ", timespec="seconds")
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{now} {text}\n")

    def progress(self, total: int, label: str) -> "ProgressBar":
        """A progress bar for a training of that many steps."""
        return ProgressBar(total, label)


class ProgressBar:
    """A progress bar with loss, accuracy and remaining time."""

    def __init__(self, total: int, label: str):
        self._interval = 0.2 if sys.stderr.isatty() else 5.0
        self._bar = tqdm.tqdm(
            total=total,
            desc=label,
            leave=False,
            mininterval=self._interval,
            unit="step",
            dynamic_ncols=True,
        )
        self._drawn = time.monotonic()

    def update(self, sums: Any) -> None:
        """One step further.

        `sums` (of losses, correct answers, images) may lie on a GPU: it is read only when drawn.
        """
        if time.monotonic() - self._drawn >= self._interval:
            self._drawn = time.monotonic()
            loss, correct, count = sums.tolist()
            self._bar.set_postfix_str(
                f"loss {loss / count:.3f}, accuracy {correct / count:.1%}", refresh=False
            )
        self._bar.update()

    def close(self) -> None:
        self._bar.close()
