"""Which tasks of a run are finished, and what follows: stored results, rows of tables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

from experiment.config.schema import Guarantee
from experiment.core.columns import as_dict
from experiment.core.errors import UserError
from experiment.core.text import visible
from experiment.reporting.logger import Logger
from experiment.reporting.records import (
    KEY,
    REFERENCE,
    CorruptionRecord,
    FailureRecord,
    HoldoutRecord,
    LayerRecord,
    Place,
    ResultRecord,
    TrainingRecord,
)
from experiment.reporting.tables import (
    corruption_table,
    failure_table,
    holdout_table,
    layer_table,
    result_table,
    training_table,
)
from experiment.reporting.tracking import Row
from experiment.runs.claims import Claims
from experiment.runs.holdout import holdout_row
from experiment.runs.lock import Owner
from experiment.runs.paths import DAMAGED, STEPS
from experiment.runs.records import (
    CorruptedRecord,
    EvaluatedRecord,
    PrunedRecord,
    TrainedRecord,
)
from experiment.runs.results import DamagedError, Layout, Result, Store
from experiment.runs.rows import result_row
from experiment.runs.tasks import Evaluate, EvaluateCorrupted, Prune, Retrain, Task, Train
from experiment.training.records import EpochRecord


class Ledger:
    """The results of a run's tasks.

    A result is stored, its rows are written as soon as all that they need is there, and a net that
    no task will start from any more is forgotten and, unless it is to be kept, deleted. Trained
    nets are also put into `shared`, by their fingerprint, and taken from there.

    The stored results are the truth, and the tables are written from them. A stored result counts
    only if it was computed from the nets that are there now.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        directory: Path,
        logger: Logger,
        run_id: str,
        *,
        keep_all: bool = False,
        shared: Store | None = None,
        layout: Layout | None = None,
        guarantee: Guarantee | None = None,
        listen: Callable[[Row], None] = lambda row: None,
    ):
        self.tasks = tasks
        self.store = Store(directory / STEPS, run_id, layout)
        self.shared = shared
        self._claims = None if shared is None else Claims(shared.directory)
        self.logger = logger
        self._listen = listen  # to every row that there is, and then to every new one
        self.results = result_table(directory)
        self.trainings = training_table(directory)
        self.layers = layer_table(directory)
        self.corruptions = corruption_table(directory)
        self.failures = failure_table(directory)
        self._guarantee = guarantee
        self.tests = None if guarantee is None else holdout_table(directory)
        self._failed: list[FailureRecord] = []
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
        self._with_epochs: set[str] = set()  # trainings that are not finished, with rows
        self._checkpoints: dict[str, str] = {}  # of trainings: where the last one is stored
        self._stored = self._load_all()

    def restore(self) -> list[Task]:
        """Finish what was done before, and write the tables from it. Returns these tasks."""
        done = []
        for task in self.tasks:
            result = self.stored(task) if self.is_ready(task) else None
            if result is not None:
                self._note(task, result)
                done.append(task)
        epochs = [epoch for task in self.tasks for epoch in self._epoch_rows(task)]
        self.trainings.rewrite(epochs)
        complete = list(filter(self._is_complete, self._evaluations))
        results = [self._result_row(place) for place in complete]
        self.results.rewrite(results)
        if self.tests is not None:
            self.tests.rewrite(self._tests(complete))
        self.layers.rewrite([row for task in done for row in self._layer_rows(task)])
        corrupted = [row for task in done for row in self._corruption_rows(task)]
        if any(isinstance(task, EvaluateCorrupted) for task in self.tasks):
            self.corruptions.rewrite(corrupted)
        else:
            self.corruptions.delete()
        for epoch in epochs:
            self._listen(epoch)
        if results:
            rows = "1 row" if len(results) == 1 else f"{len(results)} rows"
            self.logger.say(f"{rows} found before: see {self.results.path.name}")
        for row in results:
            self._listen(row)
        for corruption in corrupted:
            self._listen(corruption)
        self.failures.delete()  # what has failed before is tried again
        return done

    def is_finished(self, task: Task) -> bool:
        """Whether the result of a task is there."""
        return task.key in self._found

    def is_ready(self, task: Task) -> bool:
        """Whether all results that a task starts from are there."""
        return all(key in self._found for key in task.inputs)

    def inputs(self, task: Task) -> list[Result]:
        """The results that a task, which is ready, starts from."""
        return [self._found[key] for key in task.inputs]

    def stored(self, task: Task) -> Result | None:
        """The result of a task, which is ready, if it was finished before."""
        result = self._stored.pop(task.key, None)
        if result is not None and result.inputs == self._digests(task):
            return result
        if result is not None:
            self._say_again(task)
        if self.shared is None or not is_shared(task):
            return None
        shared = self._load(self.shared, task.fingerprint())
        if shared is None or not shared.has_state:
            return None
        if self._claims is not None:
            self._claims.tidy(task.fingerprint())
        if task.key in self._with_epochs:  # of an own training that was interrupted
            self._remove_epochs_after(task, None)
            self._with_epochs.discard(task.key)
        try:
            return self.store.save(task.key, shared, self._digests(task))
        except UserError:  # somebody has just deleted it: it is trained again
            return None

    def begin(self, task: Task) -> Result | None:
        """A task will be computed. Returns the checkpoint from which its training goes on."""
        checkpoint = self._checkpoint(task)
        if task.key in self._with_epochs:
            self._remove_epochs_after(task, checkpoint)
        else:  # at the start, what the checkpoint was computed from may not have been there
            for row in self._epoch_rows(task):
                self._add_epoch_row(row)
        return checkpoint

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
        return self.store.save(task.key, result, self._digests(task))

    def store_checkpoint(self, task: Task, result: Result) -> None:
        """Keep how far a training is. Until that is stored, the checkpoint before it stays."""
        before = self._checkpoints.get(task.key)
        key = next(key for key in _checkpoint_keys(task) if key != before)
        self.store.save(key, result, self._digests(task)).release()
        self._checkpoints[task.key] = key
        if before is not None:
            self.store.discard(before)

    def finish(self, task: Task, result: Result) -> ResultRecord | None:
        """A task is done and its result stored: write its rows and clean up what is not needed.

        Returns the row of results.csv that is complete now, if there is one.
        """
        self._note(task, result)
        if isinstance(task, Train | Retrain) and task.key not in self._with_epochs:
            for epoch in self._epoch_rows(task):
                self._add_epoch_row(epoch)
        self.layers.add(*self._layer_rows(task))
        if isinstance(task, EvaluateCorrupted):
            self._add_corruption_rows(task)
        if not isinstance(task, Evaluate) or not self._is_complete(task.place):
            return None
        row = self._result_row(task.place)
        self.results.add(row)
        if self.tests is not None:
            self.tests.add(*self._tests(self._testable_after(task.place)))
        self._listen(row)
        return row

    def sort_tables(self) -> None:
        """Put the rows in the order of the tasks, in which workers may not have finished them."""
        order: dict[tuple[str, ...], int] = {}
        for task in self.tasks:
            order.setdefault(_place_of(as_dict(task.place)), len(order))
        for table in (self.results, self.trainings, self.layers, self.tests):
            if table is not None:
                table.sort(lambda row: order[_place_of(row)])
        if len(self.corruptions):
            self._sort_corruptions()

    def _sort_corruptions(self) -> None:
        corrupted = (task for task in self.tasks if isinstance(task, EvaluateCorrupted))
        keys = [
            (*_place_of(as_dict(task.place)), task.corruption, str(task.severity))
            for task in corrupted
        ]
        order = {key: number for number, key in enumerate(keys)}
        self.corruptions.sort(
            lambda row: order[(*_place_of(row), row["corruption"], row["severity"])]
        )

    def _note(self, task: Task, result: Result) -> None:
        """A task is done and its result stored: clean up what is not needed."""
        self._found[task.key] = result
        if isinstance(task, Train | Retrain):
            for key in _checkpoint_keys(task):
                self.store.discard(key)
        for key in self._no_longer_needed_after(task):
            self._found[key].release()
            if key not in self._kept:
                self.store.discard_state(key)

    def add_failure(self, task: Task, reason: str, num_given_up: int) -> None:
        """Write down that a task has failed."""
        self._failed.append(
            FailureRecord(
                **as_dict(task.place),
                task=task.kind,
                reason=reason,
                num_given_up=num_given_up,
            )
        )
        self.failures.rewrite(self._failed)

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

    def _is_complete(self, place: Place) -> bool:
        """Whether all evaluations of a place are finished."""
        return all(evaluation.key in self._found for evaluation in self._evaluations[place])

    def _result_row(self, place: Place) -> ResultRecord:
        return result_row(self._evaluations[place], self._tasks, self._found)

    def _testable_after(self, place: Place) -> list[Place]:
        """The places that may be tested now that one is complete: it, or those of the net."""
        if place.method != REFERENCE:
            return [place]
        of_net = [one for one in self._evaluations if one.net_seed == place.net_seed]
        return list(filter(self._is_complete, of_net))

    def _tests(self, places: Sequence[Place]) -> list[HoldoutRecord]:
        """The tests of pruned nets whose unpruned net is measured too; all places are complete."""
        assert self._guarantee is not None
        rows = []
        for place in places:
            unpruned = replace(place, method=REFERENCE, repetition=0, step=0)
            if place != unpruned and self._is_complete(unpruned):
                before, after = map(self._last_evaluation, (unpruned, place))
                rows.append(holdout_row(place, before, after, self._guarantee))
        return rows

    def _last_evaluation(self, place: Place) -> EvaluatedRecord:
        record = self._found[self._evaluations[place][-1].key].record
        assert isinstance(record, EvaluatedRecord)
        return record

    def add_epoch(self, task: Task, epoch: EpochRecord) -> None:
        """Write the row of an epoch that has just ended."""
        self._add_epoch_row(_training_row(task, epoch))
        self._with_epochs.add(task.key)

    def _add_epoch_row(self, row: TrainingRecord) -> None:
        self.trainings.add(row)
        self._listen(row)

    def _epoch_rows(self, task: Task) -> list[TrainingRecord]:
        """The rows of a training, as far as it is stored."""
        if not isinstance(task, Train | Retrain) or not self.is_ready(task):
            return []
        result = self._found.get(task.key) or self._checkpoint(task)
        if result is None:
            return []
        if task.key not in self._found:
            self._with_epochs.add(task.key)
        return [_training_row(task, epoch) for epoch in self.own_epochs(task, result)]

    def _layer_rows(self, task: Task) -> list[LayerRecord]:
        """What a pruning has left of each layer; nothing for another task."""
        record = self._found[task.key].record
        shares = record.kept_by_layer if isinstance(record, PrunedRecord) else None
        return [
            LayerRecord(**as_dict(task.place), layer=visible(layer), keep_ratio=share)
            for layer, share in (shares or {}).items()
        ]

    def _corruption_rows(self, task: Task) -> list[CorruptionRecord]:
        """What an evaluation on corrupted images has found; nothing for another task."""
        record = self._found[task.key].record
        if not isinstance(record, CorruptedRecord):
            return []
        return [CorruptionRecord(**as_dict(task.place), **as_dict(record))]

    def _add_corruption_rows(self, task: Task) -> None:
        rows = self._corruption_rows(task)
        self.corruptions.add(*rows)
        for row in rows:
            self._listen(row)

    def own_epochs(self, task: Task, result: Result) -> list[EpochRecord]:
        """The epochs of a training without those of the training from which it went on."""
        assert isinstance(result.record, TrainedRecord)
        before = [self._found[key].record for key in task.inputs[:1]]
        num_before = sum(len(one.epochs) for one in before if isinstance(one, TrainedRecord))
        return result.record.epochs[num_before:]

    def _remove_epochs_after(self, task: Task, checkpoint: Result | None) -> None:
        """Remove the rows of epochs that are done again, since they were interrupted."""
        place = _place_of(as_dict(task.place))
        kept = [] if checkpoint is None else self.own_epochs(task, checkpoint)
        kept_numbers = {str(epoch.epoch) for epoch in kept}

        def is_done_again(row: Mapping[str, str]) -> bool:
            return row["epoch"] not in kept_numbers and _place_of(row) == place

        self.trainings.remove(is_done_again)

    def _checkpoint(self, task: Task) -> Result | None:
        """What a training that is not finished has kept, if that belongs to its inputs."""
        if not isinstance(task, Train | Retrain):
            return None
        longest = None
        for key in _checkpoint_keys(task):
            result = self._load(self.store, key)
            if result is None or not result.has_state or result.inputs != self._digests(task):
                continue
            if longest is None or _num_epochs(result) > _num_epochs(longest):
                longest = result
                self._checkpoints[task.key] = key
        return longest

    def _digests(self, task: Task) -> tuple[str | None, ...]:
        return tuple(self._found[key].digest for key in task.inputs)

    def _load_all(self) -> dict[str, Result]:
        """All stored results but those whose net is gone although something will start from it.

        What was computed from other nets than those that are stored does not count either.
        """
        stored = {task.key: self._load(self.store, task.key) for task in self.tasks}
        found: dict[str, Result] = {}
        needed: set[str] = set()  # nets
        for task in reversed(self.tasks):  # what starts from a net comes after it
            result = stored[task.key]
            inputs = [stored[key] for key in task.inputs]
            digests = tuple(one.digest for one in inputs if one is not None)
            if result is not None and len(digests) == len(inputs) and result.inputs != digests:
                self._say_again(task)
                result = None
            if result is not None and (result.has_state or task.key not in needed):
                found[task.key] = result
            else:
                needed.update(task.inputs)
        return found

    def _say_again(self, task: Task) -> None:
        self.logger.say(f"{task.label}: again, since what it starts from is another net now")

    def _load(self, store: Store, key: str) -> Result | None:
        """A stored result; one that is damaged is put aside, and computed again."""
        try:
            return store.load(key)
        except DamagedError as error:
            store.put_aside(key)
            self.logger.warn(
                f"damaged: {error}; moved to {store.directory / DAMAGED}, and computed again"
            )
            return None

    def result_of(self, key: str) -> Result:
        """The result of a finished task."""
        return self._found[key]


def _place_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in KEY)


def _checkpoint_keys(task: Task) -> tuple[str, str]:
    """Where a training keeps how far it is, in turn."""
    return f"{task.key}.checkpoint", f"{task.key}.checkpoint2"


def _num_epochs(result: Result) -> int:
    return len(result.record.epochs) if isinstance(result.record, TrainedRecord) else 0


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
