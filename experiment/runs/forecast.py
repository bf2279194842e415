"""How long the rest of some tasks will take, by what those before them took."""

from collections.abc import Sequence

from experiment.runs.tasks import Evaluate, EvaluateCorrupted, Prune, Task
from experiment.runs.waiting import epochs_by_key, lengths_of_chains


class Forecast:
    """Counts what is left: epochs, prunings and evaluations, and what each of them takes."""

    def __init__(self, tasks: Sequence[Task]):
        self._epochs = epochs_by_key(tasks)
        self._chains = lengths_of_chains(tasks)
        self._left: dict[object, int] = {}
        for task in tasks:
            kind, units = self._units(task)
            self._left[kind] = self._left.get(kind, 0) + units
        self._seconds = dict.fromkeys(self._left, 0.0)
        self._measured = dict.fromkeys(self._left, 0)
        self._done: dict[str, int] = {}  # epochs of trainings that go on

    def epoch_ended(self, task: Task, seconds: float) -> None:
        """An epoch of a training has ended."""
        self._done[task.key] = self._done.get(task.key, 0) + 1
        self._count("epochs", 1, seconds)

    def ended(self, task: Task, seconds: float | None) -> None:
        """A task has ended, or will not be done; `seconds` if it was computed now."""
        kind, units = self._units(task)
        if kind == "epochs":
            self._count(kind, units - self._done.pop(task.key, 0))
        else:
            self._count(kind, units, seconds)

    def resumed(self, task: Task, num_epochs: int) -> None:
        """A training goes on after so many of its epochs."""
        self._done[task.key] = num_epochs
        self._count("epochs", num_epochs)

    def interrupted(self, task: Task) -> None:
        """A task begins anew."""
        self._left["epochs"] = self._left.get("epochs", 0) + self._done.pop(task.key, 0)

    def seconds_left(self, num_at_once: int, longest: int) -> float | None:
        """Seconds for all that is left, with so many tasks at once; None if nothing is measured.

        `longest` is the number of epochs of the longest chain that is left.
        """
        if not any(self._measured.values()):
            return None
        each = {
            kind: self._seconds[kind] / self._measured[kind]
            for kind in self._left
            if self._measured[kind]
        }
        if self._left.get("epochs") and "epochs" not in each:
            return None
        total = sum(self._left[kind] * seconds for kind, seconds in each.items())
        return max(total / num_at_once, longest * each.get("epochs", 0.0))

    def chain(self, task: Task) -> int:
        """The epochs of a task and of the longest chain behind it that are left."""
        return self._chains[task.key] + self._epochs[task.key] - self._done.get(task.key, 0)

    def _units(self, task: Task) -> tuple[object, int]:
        if isinstance(task, Prune | Evaluate | EvaluateCorrupted):
            return type(task), 1
        return "epochs", self._epochs[task.key]

    def _count(self, kind: object, units: int, seconds: float | None = None) -> None:
        self._left[kind] -= units
        if seconds is not None:
            self._seconds[kind] += seconds
            self._measured[kind] += units
