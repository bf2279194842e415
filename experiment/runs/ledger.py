"""Which tasks of a run are finished, and what follows: stored results, rows of tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeGuard

from experiment.core.columns import as_dict
from experiment.core.errors import UserError
from experiment.reporting.logger import Logger
from experiment.reporting.records import Place, TrainingRecord
from experiment.reporting.tables import result_table, training_table
from experiment.runs.claims import Claims
from experiment.runs.lock import Owner
from experiment.runs.records import TrainedRecord
from experiment.runs.results import Result, Store
from experiment.runs.rows import result_row
from experiment.runs.tasks import Evaluate, Prune, Retrain, Task, Train
from experiment.training.records import EpochRecord


class Ledger:
    """The results of a run's tasks.

    A result is stored, its rows are written as soon as all that they need is there, and a net that
    no task will start from any more is forgotten and, unless it is to be kept, deleted. Trained
    nets are also put into `shared`, by their fingerprint, and taken from there.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        directory: Path,
        logger: Logger,
        *,
        keep_all: bool = False,
        shared: Store | None = None,
    ):
        self.tasks = tasks
        self.store = Store(directory / "steps")
        self.shared = shared
        self._claims = None if shared is None else Claims(shared.directory)
        self.logger = logger
        self.results = result_table(directory)
        self.trainings = training_table(directory)
        self._found: dict[str, Result] = {}
        self._tasks = {task.key: task for task in tasks}
        self._evaluations: dict[Place, list[Evaluate]] = {}
        self._waiting: dict[str, set[str]] = {task.key: set() for task in tasks}
        for task in tasks:
            if isinstance(task, Evaluate):
                self._evaluations.setdefault(task.place, []).append(task)
            for key in task.inputs:
                self._waiting[key].add(task.key)
        self._kept = set(self._waiting) if keep_all else kept_nets(tasks)

    def inputs(self, task: Task) -> list[Result] | None:
        """The results that a task starts from; None if one of them is not there (yet)."""
        if all(key in self._found for key in task.inputs):
            return [self._found[key] for key in task.inputs]
        return None

    def stored(self, task: Task) -> Result | None:
        """The result of a task that was finished before, if it was."""
        result = self.store.load(task.key)
        if result is None and self.shared is not None and isinstance(task, Train):
            try:
                shared = self.shared.load(task.fingerprint())
                result = None if shared is None else self.store.save(task.key, shared)
            except UserError:  # somebody has deleted or damaged it: it is trained again
                return None
        return result

    def claim(self, task: Task) -> bool:
        """Whether the task may be computed: no other run is about to train the same net."""
        if self._claims is None or not is_shared(task):
            return True
        return self._claims.take(task.fingerprint())

    def claimed_by(self, task: Task) -> Owner | None:
        """The process that is about to train the net of a task for another run."""
        if self._claims is None or not is_shared(task):
            return None
        return self._claims.holder(task.fingerprint())

    def close(self) -> None:
        """Leave it to other runs to train what was not finished."""
        if self._claims is not None:
            self._claims.close()

    def store_new(self, task: Task, result: Result) -> Result:
        """Keep a result that was computed now."""
        if self.shared is not None and is_shared(task):
            self.shared.save(task.fingerprint(), result)
            self._release(task)
        return self.store.save(task.key, result)

    def finish(self, task: Task, result: Result) -> None:
        """A task is done and its result stored: write its rows and clean up what is not needed."""
        self._found[task.key] = result
        if isinstance(result.record, TrainedRecord):
            for epoch in result.record.epochs:
                self.trainings.add(_training_row(task, epoch))
        if isinstance(task, Evaluate):
            self._add_result(task.place)
        for key in self._no_longer_needed_after(task):
            self._found[key].release()
            if key not in self._kept:
                self.store.discard_state(key)

    def give_up(self, task: Task) -> None:
        """A task will not be done: free the memory of nets that were kept for it alone."""
        self._release(task)
        for key in self._no_longer_needed_after(task):
            if key in self._found:
                self._found[key].release()

    def _release(self, task: Task) -> None:
        if self._claims is not None and is_shared(task):
            self._claims.release(task.fingerprint())

    def _no_longer_needed_after(self, task: Task) -> list[str]:
        """The inputs of a task that no other task is waiting for."""
        for key in task.inputs:
            self._waiting[key].discard(task.key)
        return [key for key in task.inputs if not self._waiting[key]]

    def _add_result(self, place: Place) -> None:
        """Write the row of a place if all of its evaluations are finished."""
        evaluations = self._evaluations[place]
        if all(evaluation.key in self._found for evaluation in evaluations):
            row = result_row(evaluations, self._tasks, self._found)
            self.results.add(row)
            self.logger.say(row.line)

    def add_epoch(self, task: Task, epoch: EpochRecord) -> None:
        """Write the row of an epoch that has just ended.

        Rows of an earlier attempt at this epoch, which was interrupted, and of those after it go.
        """
        self.trainings.add_again(_training_row(task, epoch), counted_by="epoch")

    def result_of(self, key: str) -> Result:
        """The result of a finished task."""
        return self._found[key]


def _training_row(task: Task, epoch: EpochRecord) -> TrainingRecord:
    return TrainingRecord(**as_dict(task.place), **as_dict(epoch))


def is_shared(task: Task) -> TypeGuard[Train]:
    """Whether several runs may need what the task leads to."""
    return isinstance(task, Train) and task.until > 0


def kept_nets(tasks: Sequence[Task]) -> set[str]:
    """The keys of the nets that stay stored: the trained ones, and the last of each chain."""
    trained = {task.key for task in tasks if isinstance(task, Train)}
    last_of_chain = {task.chain: task.key for task in tasks if isinstance(task, Prune | Retrain)}
    return trained | set(last_of_chain.values())
