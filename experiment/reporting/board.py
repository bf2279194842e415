"""The display of a run: a line for each worker, and one for the whole with the time left."""

import shutil
import sys
import time
from collections.abc import Sequence

import tqdm.auto

from experiment.core.text import visible

INTERVAL = 0.2  # seconds between two drawings
REPORT_INTERVAL = 60.0  # seconds between two reports where the console is no terminal
TEXT = "{desc}"
MOST_TRAININGS = 4  # that a line names
STEPS = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{remaining}{postfix}]"


class Board:
    """Bars at the foot of a terminal, or in a notebook's own way; elsewhere a line at times."""

    def __init__(self, num_workers: int):
        self.has_bars = sys.stderr.isatty() or is_notebook()
        self._last_report = time.monotonic()
        lines = num_workers + 1 if self.has_bars else 0
        self._bars = [_bar(position) for position in range(lines)]  # the last is for the whole
        self._trainings: dict[int, str] = {}  # how far each worker is, without bars

    def begin(self, worker: int, labels: Sequence[str]) -> None:
        """A worker has begun tasks with these labels."""
        more = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
        self._line(worker, labels[0] + more)

    def advance(self, worker: int, label: str, done: int, total: int, text: str) -> None:
        """A worker has done some of the steps of its training."""
        if not self.has_bars:
            self._trainings[worker] = f"{visible(label)} {done / total:.0%}"
            return
        bar = self._bars[worker]
        if bar.bar_format != STEPS or bar.total != total:
            bar.bar_format = STEPS
            bar.reset(total)
        bar.set_description_str(visible(label), refresh=False)
        bar.set_postfix_str(visible(text), refresh=False)
        bar.n = done

    def end(self, worker: int) -> None:
        """A worker has nothing to do."""
        self._trainings.pop(worker, None)
        self._line(worker, "")

    @property
    def is_due(self) -> bool:
        """Whether the whole was not shown just before."""
        interval = INTERVAL if self.has_bars else REPORT_INTERVAL
        return time.monotonic() - self._last_report >= interval

    def show(self, text: str) -> None:
        """Show how much is done of the whole."""
        self._last_report = time.monotonic()
        if not self.has_bars:
            print("; ".join([text, *self._shown_trainings()]), file=sys.stderr, flush=True)
            return
        self._bars[-1].set_description_str(text, refresh=False)
        for bar in self._bars:
            bar.refresh()

    def close(self) -> None:
        for bar in reversed(self._bars):  # closing the first one would move the others
            bar.close()

    def _shown_trainings(self) -> list[str]:
        """How far the first of the workers are."""
        trainings = [self._trainings[worker] for worker in sorted(self._trainings)]
        num_more = len(trainings) - MOST_TRAININGS
        return trainings[:MOST_TRAININGS] + ([f"and {num_more} more"] if num_more > 0 else [])

    def _line(self, worker: int, text: str) -> None:
        if self.has_bars:
            width = shutil.get_terminal_size().columns - 1
            self._bars[worker].bar_format = TEXT
            self._bars[worker].set_description_str(
                visible(text).ljust(width)[:width], refresh=False
            )


def is_notebook() -> bool:
    """Whether this is the kernel of a notebook that can show bars."""
    return tqdm.auto.notebook_tqdm is not tqdm.auto.std_tqdm


def _bar(position: int) -> tqdm.auto.tqdm:
    return tqdm.auto.tqdm(position=position, leave=False, bar_format=TEXT, dynamic_ncols=True)


def duration(seconds: float) -> str:
    """A time for people, e.g. `50 s`, `3 min`, `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"
