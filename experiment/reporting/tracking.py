"""Trackers: other programs, such as TensorBoard, that are told of the rows of a run as they come.

They are a courtesy: the tables of the run are what counts. A tracker that fails, or does not
answer, is reported once and left out, and the run goes on.
"""

import abc
import importlib.util
import math
import queue
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from experiment.core.columns import as_dict
from experiment.core.errors import UserError, details_of, one_line
from experiment.core.own_code import exits_as_errors
from experiment.core.registry import TRACKERS
from experiment.reporting.logger import Logger
from experiment.reporting.records import (
    REFERENCE,
    CorruptionRecord,
    Place,
    ResultRecord,
    TrainingRecord,
)

Row = ResultRecord | TrainingRecord | CorruptionRecord
Axis = Literal["step", "epoch"]

PATIENCE = 30.0  # seconds that trackers have at the end of a run for what they are behind
SHORT_PATIENCE = 0.5  # seconds, if the run was interrupted

OF_RESULTS = (
    "keep_ratio",
    "prune_ratio",
    "flop_keep_ratio",
    "accuracy_before_retraining",
    "validation_accuracy",
    "test_accuracy",
    "test_top5",
    "test_loss",
)
OF_EPOCHS = (
    "learning_rate",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
)
OF_CORRUPTIONS = ("accuracy", "loss")


@dataclass(frozen=True)
class About:
    """What a tracker is told of a run at its start."""

    run_id: str
    title: str  # of the run, for people
    directory: Path
    settings: dict[str, Any]  # the resolved configuration
    epochs_per_step: int  # of retraining


class Tracker(abc.ABC):
    """Shows the numbers of a run in another program.

    Its options are the keyword parameters of its constructor, which must not do more than keep
    them. All methods are called in a thread of the tracker's own, one after the other. Whatever
    they raise ends this tracker and nothing else.
    """

    package: ClassVar[str] = ""  # that has to be installed, by the name under which it is imported
    to_install: ClassVar[str] = ""  # what pip calls it

    @abc.abstractmethod
    def start(self, about: About) -> None:
        """Begin. Every run, resumed or not, is told of all its rows, the earlier ones at once.

        What was shown of the same run before is therefore to be replaced, or to be overwritten
        point by point.
        """

    @abc.abstractmethod
    def log(self, axis: Axis, position: int, values: dict[str, float]) -> None:
        """Show values at a position of an axis.

        `step` counts prunings, from 0 for the unpruned net; `epoch` counts the epochs of a chain of
        retrainings on from each other. Values have names such as `results/test_accuracy/SiPP/net0`
        or, of test images that are corrupted, `corruptions/accuracy/fog_3/SiPP/net0`.
        """

    @abc.abstractmethod
    def finish(self) -> None:
        """The run has ended, at least for now."""


def build_tracker(name: str, options: dict[str, Any]) -> Tracker:
    """The tracker of that name. Raises UserError if it is none, or its package is missing."""
    tracker = TRACKERS.build(name, options)
    if not isinstance(tracker, Tracker):
        raise UserError(
            f"tracker {name} is of type {type(tracker).__name__}, which does not inherit from "
            f"experiment.reporting.tracking.Tracker"
        )
    if tracker.package and importlib.util.find_spec(tracker.package) is None:
        raise UserError(
            f"tracker {name} needs the package {tracker.to_install}, which is not installed: "
            f"pip install {tracker.to_install}"
        )
    return tracker


class Tracking:
    """The trackers of a run, each behind a thread, so that the run never waits for them."""

    def __init__(self, trackers: Sequence[tuple[str, Tracker]], about: About, logger: Logger):
        self.logger = logger
        self.about = about
        self._threads = [_Thread(name, tracker, about) for name, tracker in trackers]

    def add(self, row: Row) -> None:
        """Tell of a row."""
        if self._threads:
            point = point_of(row, self.about)
            for thread in self._threads:
                thread.tell(*point)
            self._report()

    def close(self, patience: float = PATIENCE) -> None:
        """Give the trackers that many seconds to show what they were told of."""
        for thread in self._threads:
            thread.end()
        limit = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, limit - time.monotonic()))
            if thread.is_alive():
                self.logger.warn(
                    f"tracker {thread.name}: has not shown everything within {patience:g} s; "
                    f"the files of the run have it all"
                )
        self._report()
        self._threads = []

    def _report(self) -> None:
        """Say which trackers have failed, and leave them out."""
        for thread in [one for one in self._threads if one.error is not None]:
            self._threads.remove(thread)
            assert thread.error is not None
            self.logger.warn(
                f"tracker {thread.name}: shows nothing any more: {one_line(thread.error)}; "
                f"the run goes on"
            )
            self.logger.note(details_of(thread.error))


class _Thread(threading.Thread):
    """Gives a tracker one row after the other, until it fails."""

    def __init__(self, name: str, tracker: Tracker, about: About):
        super().__init__(name=name, daemon=True)
        self.tracker = tracker
        self.about = about
        self.error: Exception | None = None
        self._points: queue.SimpleQueue[tuple[Axis, int, dict[str, float]] | None] = (
            queue.SimpleQueue()
        )
        self.start()

    def tell(self, axis: Axis, position: int, values: dict[str, float]) -> None:
        self._points.put((axis, position, values))

    def end(self) -> None:
        self._points.put(None)

    def run(self) -> None:
        try:
            with exits_as_errors():
                self.tracker.start(self.about)
                while (point := self._points.get()) is not None:
                    self.tracker.log(*point)
                self.tracker.finish()
        except Exception as error:
            self.error = error


def point_of(row: Row, about: About) -> tuple[Axis, int, dict[str, float]]:
    """What a tracker shows of a row: the axis, the position there, and values by name."""
    if isinstance(row, TrainingRecord):
        position = row.epoch + max(0, row.step - 1) * about.epochs_per_step
        return "epoch", position, _values(row, "epochs", OF_EPOCHS, _series(row))
    if isinstance(row, ResultRecord):
        return "step", row.step, _values(row, "results", OF_RESULTS, _series(row))
    series = f"{row.corruption}_{row.severity}/{_series(row)}"
    return "step", row.step, _values(row, "corruptions", OF_CORRUPTIONS, series)


def _values(row: Row, kind: str, names: Sequence[str], series: str) -> dict[str, float]:
    """The numbers of a row that there are, by the names of their curves."""
    record = as_dict(row)
    return {
        f"{kind}/{name}/{series}": float(record[name])
        for name in names
        if record[name] is not None and math.isfinite(record[name])
    }


def _series(place: Place) -> str:
    """The name of a net and how it is pruned."""
    if place.method == REFERENCE:
        return f"{REFERENCE}/net{place.net_seed}"
    repetition = f"/repetition{place.repetition}" if place.repetition else ""
    return f"{place.method}/net{place.net_seed}{repetition}"


def require_trackers(parts: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Raise UserError, one line for each tracker that cannot be used."""
    mistakes = []
    for index, (name, options) in enumerate(parts):
        try:
            build_tracker(name, options)
        except UserError as error:
            mistakes += [f"logging[{index}]: {line}" for line in error.mistakes]
    if mistakes:
        raise UserError(*mistakes)
