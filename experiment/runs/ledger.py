"""Which tasks of a run are finished, and what follows: stored results, rows of tables."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from experiment.nets.collapse import collapse_notes
from experiment.reporting.logger import Logger
from experiment.reporting.records import Place, ResultRecord, TrainingRecord
from experiment.reporting.tables import result_table, training_table
from experiment.runs.results import Result, Store
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
        self.store = Store(directory / "steps")
        self.shared = shared
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
        """The results that a task starts from; None if one is missing, since its task failed."""
        if all(key in self._found for key in task.inputs):
            return [self._found[key] for key in task.inputs]
        return None

    def stored(self, task: Task) -> Result | None:
        """The result of a task that was finished before, if it was."""
        result = self.store.load(task.key)
        if result is None and self.shared is not None and isinstance(task, Train):
            result = self.shared.load(task.fingerprint())
            if result is not None:
                result = self.store.save(task.key, result)
        return result

    def store_new(self, task: Task, result: Result) -> Result:
        """Keep a result that was computed now."""
        if self.shared is not None and isinstance(task, Train):
            self.shared.save(task.fingerprint(), result)
        return self.store.save(task.key, result)

    def finish(self, task: Task, result: Result) -> None:
        """A task is done and its result stored: write its rows and clean up what is not needed."""
        self._found[task.key] = result
        if isinstance(task, Train | Retrain):
            for epoch in result.record["epochs"]:
                self.add_epoch(task, EpochRecord(**epoch))
        if isinstance(task, Evaluate):
            self._add_result(task.place)
        for key in task.inputs:
            self._waiting[key].discard(task.key)
            if not self._waiting[key]:
                self._found[key].release()
                if key not in self._kept:
                    self.store.discard_state(key)

    def _add_result(self, place: Place) -> None:
        """Write the row of a place if all of its evaluations are finished."""
        evaluations = self._evaluations[place]
        if all(evaluation.key in self._found for evaluation in evaluations):
            record = result_record(evaluations, self._tasks, self._found)
            self.results.add(record)
            self.logger.say(record.line)

    def add_epoch(self, task: Task, epoch: EpochRecord) -> None:
        """Write the row of an epoch, unless it is there."""
        self.trainings.add(TrainingRecord(**asdict(task.place), **asdict(epoch)))

    def result_of(self, key: str) -> Result:
        """The result of a finished task."""
        return self._found[key]


def kept_nets(tasks: Sequence[Task]) -> set[str]:
    """The keys of the nets that stay stored: the trained ones, and the last of each chain."""
    trained = {task.key for task in tasks if isinstance(task, Train)}
    last_of_chain = {task.chain: task.key for task in tasks if isinstance(task, Prune | Retrain)}
    return trained | set(last_of_chain.values())


def result_record(
    evaluations: Sequence[Evaluate], tasks: Mapping[str, Task], found: Mapping[str, Result]
) -> ResultRecord:
    """The row of results.csv to which the evaluations of one place lead.

    There are two where a pruned net was retrained: one before and one after.
    """
    first = evaluations[0]
    last = evaluations[-1]
    before = found[first.key].record
    after = found[last.key].record
    made = found[last.inputs[0]].record
    common = {
        **asdict(first.place),
        "network": first.network.name,
        "dataset": first.dataset.name,
        "accuracy_before_retraining": before["test_accuracy"],
        **after,
    }
    task = tasks[first.inputs[0]]
    if not isinstance(task, Prune):
        return ResultRecord(
            keep_ratio_requested=1.0,
            keep_ratio=1.0,
            prune_ratio=0.0,
            flop_keep_ratio=1.0,
            retrained=False,
            prune_seconds=0.0,
            retrain_seconds=made["seconds"],
            empty_layers=0,
            note=_joined(collapse_notes([], after["constant_output"], False)),
            **common,
        )
    pruned = found[task.key].record
    retrained = last is not first
    notes = collapse_notes(
        pruned["empty_layers"], after["constant_output"], pruned["constant_before"]
    )
    return ResultRecord(
        keep_ratio_requested=task.keep_ratio,
        keep_ratio=pruned["keep_ratio"],
        prune_ratio=1 - pruned["keep_ratio"],
        flop_keep_ratio=pruned["flop_keep_ratio"],
        retrained=retrained,
        prune_seconds=pruned["seconds"],
        retrain_seconds=made["seconds"] if retrained else 0.0,
        empty_layers=len(pruned["empty_layers"]),
        note=_joined([pruned["size_note"] or "", *notes]),
        **common,
    )


def _joined(notes: list[str]) -> str | None:
    return "; ".join(note for note in notes if note) or None
