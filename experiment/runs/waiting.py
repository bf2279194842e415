"""The tasks of a run that are still to be done, and which of them comes next."""

import heapq
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from experiment.runs.tasks import Evaluate, EvaluateCorrupted, Retrain, Task, Train, num_epochs

Ranks = Callable[[Sequence[Task]], Mapping[str, Any]]  # what is smaller is done first


def as_listed(tasks: Sequence[Task]) -> dict[str, int]:
    """Tasks are done in the order of the list: a net after the other, a method after the other."""
    return {task.key: place for place, task in enumerate(tasks)}


def longest_chain_first(tasks: Sequence[Task]) -> dict[str, tuple[bool, int, int]]:
    """The tasks with the most epochs behind them come first, so that none is left over at the end.

    Evaluations come before all others: rows wait for them, and nets are kept for them.
    """
    epochs = epochs_by_key(tasks)
    length = lengths_of_chains(tasks)
    kinds = Evaluate | EvaluateCorrupted
    return {
        task.key: (not isinstance(task, kinds), -length[task.key] - epochs[task.key], place)
        for place, task in enumerate(tasks)
    }


def epochs_by_key(tasks: Sequence[Task]) -> dict[str, int]:
    """How many epochs each task of a run trains for."""
    return {task.key: epochs for task, epochs in zip(tasks, num_epochs(tasks))}


def lengths_of_chains(tasks: Sequence[Task]) -> dict[str, int]:
    """For each task, the epochs of the longest chain of tasks that follows it."""
    epochs = epochs_by_key(tasks)
    length = dict.fromkeys(epochs, 0)
    for task in reversed(tasks):  # what follows a task comes after it
        for key in task.inputs:
            length[key] = max(length[key], length[task.key] + epochs[task.key])
    return length


class Waiting:
    """Tasks that wait for their turn, or for the results that they start from; not those done."""

    def __init__(
        self, tasks: Sequence[Task], ranks: Ranks = as_listed, done: Collection[Task] = ()
    ):
        self._tasks = {task.key: task for task in tasks}
        self._places = as_listed(tasks)
        self._ranks = ranks(tasks)
        self._missing = {task.key: set(task.inputs) for task in tasks}
        self._followers: dict[str, list[str]] = {}
        for task in tasks:
            for key in task.inputs:
                self._followers.setdefault(key, []).append(task.key)
        self._trainings: list[tuple[Any, str]] = []  # heaps of what is ready
        self._others: list[tuple[Any, str]] = []
        for task in done:
            del self._tasks[task.key]
            for key in self._followers.get(task.key, []):
                self._missing[key].discard(task.key)
        for task in self._tasks.values():
            self._add_if_ready(task)

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def first_rank(self) -> Any:
        """The rank of the task that comes next; None if none is ready."""
        return min((heap[0][0] for heap in (self._trainings, self._others) if heap), default=None)

    def take(self, at_once: int = 1, num_sharing: int = 1) -> list[Task]:
        """The next tasks to do together, if any is ready: one task, or up to `at_once` trainings.

        Where several trainings may be done together, other tasks come first, which may lead to more
        of them; and `num_sharing` that are about to take some get equal shares.
        """
        if at_once == 1:
            ready = [heap for heap in (self._trainings, self._others) if heap]
            return [self._pop(min(ready, key=lambda heap: heap[0]))] if ready else []
        if self._others:
            return [self._pop(self._others)]
        share = -(-len(self._trainings) // num_sharing)
        return [self._pop(self._trainings) for _ in range(min(at_once, share))]

    def finished(self, task: Task) -> None:
        """A task is done: what waits for nothing else becomes ready."""
        for key in self._followers.get(task.key, []):
            self._missing[key].discard(task.key)
            if key in self._tasks:
                self._add_if_ready(self._tasks[key])

    def put_back(self, task: Task) -> None:
        """A task that was taken has to be done again."""
        self._tasks[task.key] = task
        self._add_if_ready(task)

    def give_up(self, failed: Task) -> list[Task]:
        """Drop what follows a task that has failed in its chain, and return it."""
        following = [
            task
            for task in self._tasks.values()
            if task.belongs_to(failed.chain) and self._places[task.key] > self._places[failed.key]
        ]
        return self._drop(following)

    def give_up_all(self) -> list[Task]:
        """Drop all tasks, and return them."""
        return self._drop(list(self._tasks.values()))

    def _drop(self, tasks: list[Task]) -> list[Task]:
        for task in tasks:
            del self._tasks[task.key]
        for heap in (self._trainings, self._others):
            heap[:] = [entry for entry in heap if entry[1] in self._tasks]
            heapq.heapify(heap)
        return tasks

    def _pop(self, heap: list[tuple[Any, str]]) -> Task:
        _, key = heapq.heappop(heap)
        return self._tasks.pop(key)

    def _add_if_ready(self, task: Task) -> None:
        if not self._missing[task.key]:
            heap = self._trainings if isinstance(task, Train | Retrain) else self._others
            heapq.heappush(heap, (self._ranks[task.key], task.key))
