"""What a run tells people: lines on the console and in log.txt, and progress bars."""

import datetime
import sys
import time
from pathlib import Path

import tqdm
from torch import Tensor


class Logger:
    """Writes lines to the console and, with the time, to log.txt in the directory of a run."""

    def __init__(self, directory: Path):
        self.path = directory / "log.txt"

    def say(self, text: str) -> None:
        """Write a line to the console and to the log."""
        tqdm.tqdm.write(text)
        self.note(text)

    def error(self, text: str, details: str) -> None:
        """Write a failure: one line to the console, its details to the log too."""
        tqdm.tqdm.write(text, file=sys.stderr)
        self.note(f"{text}\n{details}")

    def note(self, text: str) -> None:
        """Write something to the log alone."""
        now = datetime.datetime.now().isoformat(sep=" ", timespec="seconds")
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{now} {text}\n")

    def progress(self, total: int, label: str) -> "ProgressBar":
        """A progress bar for a training of `total` steps."""
        return ProgressBar(total, label)


class ProgressBar:
    """A progress bar with loss, accuracy and the time that remains."""

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
        self._last_drawn = time.monotonic()

    def update(self, sums: Tensor) -> None:
        """Advance by one step.

        Args:
            sums: losses, correct answers and images of the epoch so far. The tensor may be on a
                GPU, for which reading it means waiting; it is read only when the bar is drawn.
        """
        if time.monotonic() - self._last_drawn >= self._interval:
            self._last_drawn = time.monotonic()
            loss, correct, count = sums.tolist()
            self._bar.set_postfix_str(
                f"loss {loss / count:.3f}, accuracy {correct / count:.1%}", refresh=False
            )
        self._bar.update()

    def close(self) -> None:
        self._bar.close()
