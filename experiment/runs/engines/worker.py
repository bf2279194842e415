"""A worker: does jobs one after the other, and keeps nets and data from one to the next."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor

from experiment.config.schema import DatasetPart
from experiment.core.errors import LockedError, StorageError
from experiment.core.own_code import exits_as_errors
from experiment.runs.engines.engine import (
    Advanced,
    Checkpointed,
    EpochEnded,
    Event,
    Failure,
    Finished,
    Job,
)
from experiment.runs.execution import execute, train_together
from experiment.runs.results import Result
from experiment.runs.tasks import Retrain, Task, Train
from experiment.runs.workplace import Workplace
from experiment.training.records import EpochRecord
from experiment.training.team import ALONE, Team

INTERVAL = 0.5  # seconds between two messages about how far a training is


class Worker:
    """Does jobs in this process and tells about them.

    Jobs may belong to different experiments; the data of the last one are kept. They are loaded
    within a block of `preparing(dataset)`. How far a training is is told every `interval` seconds.
    """

    def __init__(
        self,
        device: str,
        tell: Callable[[Event], None],
        team: Team = ALONE,
        preparing: Callable[[DatasetPart], AbstractContextManager[None]] = lambda _: nullcontext(),
        interval: float = INTERVAL,
    ):
        self.device = device
        self.tell = tell
        self.team = team
        self.preparing = preparing
        self.interval = interval
        self._workplace: tuple[tuple[DatasetPart, int], Workplace] | None = None

    def use(self, workplace: Workplace, dataset: DatasetPart, seed: int) -> None:
        """Take a workplace for the tasks with that data set and seed."""
        workplace.on_epoch = self._tell_epoch
        workplace.on_checkpoint = self._tell_checkpoint
        workplace.trainer.progress = self._progress
        self._workplace = ((dataset, seed), workplace)

    def do(self, job: Job) -> None:
        """Do a job, and tell at the end what has become of its tasks."""
        start = time.perf_counter()
        outcomes = self._outcomes(job)
        self.tell(Finished(outcomes, time.perf_counter() - start))

    def _outcomes(self, job: Job) -> list[Result | Failure]:
        try:
            with exits_as_errors():
                found = self._found(job)
        except Exception as error:
            return [_failure(error) for _ in job.tasks]
        return [_failure(one) if isinstance(one, Exception) else one for one in found]

    def _found(self, job: Job) -> Sequence[Result | Exception]:
        workplace = self.workplace_for(job.tasks[0])
        workplace.checkpoint_seconds = job.checkpoint_seconds
        trainings = [task for task in job.tasks if isinstance(task, Train | Retrain)]
        if len(trainings) > 1:
            return train_together(trainings, job.inputs, workplace)
        return [execute(job.tasks[0], job.inputs[0], workplace)]

    def workplace_for(self, task: Task) -> Workplace:
        """Where the task is done. Raises UserError if its data cannot be loaded."""
        wanted = (task.dataset, task.seed)
        if self._workplace is None or self._workplace[0] != wanted:
            self._workplace = None  # frees the memory of other data
            with self.preparing(task.dataset):
                self.use(Workplace.of(task, self.device, self.team), *wanted)
        assert self._workplace is not None
        return self._workplace[1]

    def _tell_epoch(self, task: Task, record: EpochRecord) -> None:
        self.tell(EpochEnded(task.key, record))

    def _tell_checkpoint(self, task: Task, result: Result) -> None:
        self.tell(Checkpointed(task.key, result))

    def _progress(self, total: int, label: str) -> "Progress":
        return Progress(total, label, self.tell, self.interval)


def _failure(error: Exception) -> Failure:
    """That of a task.

    What the driver has met when it was told of an epoch, in this process, is none: it is raised.
    """
    if isinstance(error, StorageError | LockedError):
        raise error
    return Failure.of(error)


class Progress:
    """Tells every now and then how far a training is."""

    def __init__(self, total: int, label: str, tell: Callable[[Event], None], interval: float):
        self.total = total
        self.label = label
        self.tell = tell
        self.interval = interval
        self._done = 0
        self._last_told = 0.0

    def update(self, sums: Tensor) -> None:
        """One step further. The sums may be on a GPU, for which reading them means waiting."""
        self._done += 1
        now = time.monotonic()
        if now - self._last_told >= self.interval:
            self._last_told = now
            loss, correct, count = sums.tolist()
            self.tell(Advanced(self.label, self._done, self.total, loss / count, correct / count))

    def close(self) -> None:
        pass
