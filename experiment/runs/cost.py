"""What experiments cost: trainings and epochs, and hours at speeds that were measured."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from experiment.config.schema import Config, Training
from experiment.runs.tasks import (
    Evaluate,
    EvaluateCorrupted,
    Prune,
    Retrain,
    Task,
    Train,
    num_epochs,
    tasks,
)
from experiment.training.precision import Precision

SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class Cost:
    """What tasks take together if nothing is done yet; equal trainings are done once."""

    trainings: int
    prunings: int
    retrainings: int
    epochs: int
    corrupted: int  # evaluations on corrupted test images

    @classmethod
    def of(cls, tasks: Sequence[Task]) -> "Cost":
        once = without_repeated_trainings(tasks)
        # What only leads to an early checkpoint is a part of a training that goes on from there.
        whole = [
            task for task in once if isinstance(task, Train) and task.until >= task.settings.epochs
        ]
        return cls(
            trainings=len(whole),
            prunings=sum(isinstance(task, Prune) for task in once),
            retrainings=sum(isinstance(task, Retrain) for task in once),
            epochs=sum(epochs for _, epochs in epochs_of(once)),
            corrupted=sum(isinstance(task, EvaluateCorrupted) for task in once),
        )


def without_repeated_trainings(tasks: Sequence[Task]) -> list[Task]:
    """The tasks, of one run or of several, less the trainings that one before them has done."""
    done: set[str] = set()
    result: list[Task] = []
    for task in tasks:
        if isinstance(task, Train):
            if task.fingerprint() in done:
                continue
            done.add(task.fingerprint())
        result.append(task)
    return result


@dataclass(frozen=True)
class Images:
    """How many images each split of an experiment has."""

    train: int
    validation: int
    test: int


class Speeds(Protocol):
    """How fast an experiment's parts are on some device."""

    def images(self, config: Config) -> Images:
        """The sizes of its splits."""

    def training(self, config: Config, settings: Training, precision: Precision) -> float | None:
        """Seconds to train on one image in a precision; None if that is not possible."""

    def evaluation(self, config: Config) -> float:
        """Seconds to evaluate one image."""

    def pruning(self, config: Config, task: Prune, *, shared: bool) -> float:
        """Seconds to prune once; 0 if that is not possible.

        `shared`: the method has pruned the same net before, so that what it has found out about
        net and sample is there.
        """


@dataclass(frozen=True)
class Hours:
    """Hours of computing."""

    training: float
    evaluation: float
    pruning: float

    @property
    def total(self) -> float:
        return self.training + self.evaluation + self.pruning


def hours(configs: Sequence[Config], speeds: Speeds, precision: Precision) -> Hours | None:
    """What experiments cost together in a precision; None if it is not possible.

    Trainings that they share are done once.
    """
    training = 0.0
    evaluation = 0.0
    pruning = 0.0
    for config, own in zip(configs, without_shared_trainings(configs)):
        images = speeds.images(config)
        for settings, epochs in epochs_of(own):
            seconds = speeds.training(config, settings, precision)
            if seconds is None:
                return None
            training += epochs * images.train * seconds
        evaluation += num_evaluated(own, images) * speeds.evaluation(config)
        for task, shared in prunings_of(own):
            pruning += speeds.pruning(config, task, shared=shared)
    return Hours(*(seconds / SECONDS_PER_HOUR for seconds in (training, evaluation, pruning)))


def without_shared_trainings(configs: Sequence[Config]) -> list[list[Task]]:
    """The tasks of each experiment, less the trainings that one before it has done already."""
    planned = [tasks(config) for config in configs]
    once = {id(task) for task in without_repeated_trainings([*itertools.chain(*planned)])}
    return [[task for task in own if id(task) in once] for own in planned]


def epochs_of(tasks: Sequence[Task]) -> Iterator[tuple[Training, int]]:
    """The settings of each training and retraining that trains at all, and its epochs."""
    for task, epochs in zip(tasks, num_epochs(tasks)):
        if isinstance(task, Train | Retrain) and epochs:
            yield task.settings, epochs


def num_evaluated(tasks: Sequence[Task], images: Images) -> int:
    """How many images are evaluated.

    The validation images after each epoch, and for each net that is evaluated the test images,
    once more for each corruption; and the validation images again if the net was not trained, whose
    accuracy is not known yet, or if some of them are set aside for tests.
    """
    evaluated = [task for task in tasks if isinstance(task, Evaluate)]
    not_trained = {task.key for task in tasks if isinstance(task, Prune)}
    not_trained |= {task.key for task in tasks if isinstance(task, Train) and not task.until}
    not_trained |= {task.key for task in tasks if isinstance(task, Retrain) and not task.num_epochs}
    num_unknown = sum(task.holdout or task.inputs[0] in not_trained for task in evaluated)
    total_epochs = sum(epochs for _, epochs in epochs_of(tasks))
    num_tests = len(evaluated) + sum(isinstance(task, EvaluateCorrupted) for task in tasks)
    return (total_epochs + num_unknown) * images.validation + num_tests * images.test


def prunings_of(tasks: Sequence[Task]) -> Iterator[tuple[Prune, bool]]:
    """Each pruning, and whether its method has pruned the same net before.

    What methods of one net share, sensitivities for instance, is counted for each of them.
    """
    pruned = {task.key for task in tasks if isinstance(task, Prune | Retrain)}
    before: set[tuple] = set()
    for task in tasks:
        if not isinstance(task, Prune):
            continue
        key = (task.inputs[0], task.place.repetition, task.place.method)
        yield task, key in before
        if task.inputs[0] not in pruned:
            before.add(key)
