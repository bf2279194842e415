"""The tasks of a run that are still to be done, and which of them comes next."""

from collections.abc import Iterable, Iterator

from experiment.runs.ledger import Ledger
from experiment.runs.tasks import Retrain, Task, Train


class Waiting:
    """Tasks that wait for their turn, or for the results that they start from."""

    def __init__(self, tasks: Iterable[Task], ledger: Ledger):
        self._tasks = {task.key: task for task in tasks}
        self._order = {key: place for place, key in enumerate(self._tasks)}
        self._ledger = ledger

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def take(self, at_once: int) -> list[Task]:
        """The next tasks to do together: one task, or up to `at_once` trainings.

        That is the first one that is ready. If it is a training and fewer than `at_once` are ready,
        other tasks come first, which may lead to more of them.
        """
        taken: list[Task] = []
        for task in self._ready():
            if isinstance(task, Train | Retrain):
                taken.append(task)
            elif not taken or at_once > 1:
                taken = [task]
                break
            if len(taken) == at_once:
                break
        if not taken:
            raise RuntimeError(f"these tasks wait for each other: {', '.join(self._tasks)}")
        for task in taken:
            del self._tasks[task.key]
        return taken

    def give_up(self, failed: Task) -> None:
        """Drop what follows a task that has failed in its chain."""
        following = [
            task
            for task in self._tasks.values()
            if task.belongs_to(failed.chain) and self._order[task.key] > self._order[failed.key]
        ]
        for task in following:
            del self._tasks[task.key]
            self._ledger.give_up(task)

    def _ready(self) -> Iterator[Task]:
        """In the order of the list, the tasks whose inputs are there."""
        return (task for task in self._tasks.values() if self._ledger.inputs(task) is not None)
