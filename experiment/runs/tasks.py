"""What there is to do in an experiment: a list of tasks, as plain data.

A task says all that its numbers depend on, and from which other tasks' results it starts. Whoever
executes the tasks needs nothing else, may do so in any order in which inputs come first, and finds
the same numbers.
"""

import functools
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiment.config.schedules import Step, judged, steps, steps_of
from experiment.config.schema import (
    Config,
    CorruptionName,
    DatasetPart,
    MethodPart,
    NetworkPart,
    Training,
)
from experiment.core.errors import UserError
from experiment.core.seeding import Stream
from experiment.core.text import shown
from experiment.reporting.records import REFERENCE, Place

LONGEST_NAME = 200  # bytes of a method's folder; file systems allow about 255


@dataclass(frozen=True, kw_only=True)
class Task:
    """One piece of work, which leads to one result."""

    key: str  # unique in the experiment; where its result is stored
    inputs: tuple[str, ...] = ()  # the keys of the tasks whose results it starts from
    place: Place  # of the row in the tables to which it contributes
    network: NetworkPart
    dataset: DatasetPart
    seed: int  # of the experiment

    def __hash__(self) -> int:
        """Equal tasks have equal keys; some settings are lists, which have no hash."""
        return hash(self.key)

    @property
    def label(self) -> str:
        """What is done, to show to people."""
        raise NotImplementedError

    @property
    def kind(self) -> str:
        """The same in one word."""
        return type(self).__name__.lower()

    @property
    def chain(self) -> str:
        """What is given up together if one of its tasks fails: a net, or a method on a net."""
        return self.key.rpartition("/")[0]

    def belongs_to(self, chain: str) -> bool:
        """Whether the task is part of a chain; what is done with a net is part of that net's."""
        return self.key.startswith(f"{chain}/")

    @property
    def concerns_whole_run(self) -> bool:
        """Whether bad input that this task finds would be found for every net and method."""
        return self.place.method == REFERENCE

    @property
    def net_stream(self) -> Stream:
        """The random stream of its net: initialisation and training."""
        return Stream(self.seed).child("net", self.place.net_seed)

    @property
    def repetition_stream(self) -> Stream:
        """The random stream of its repetition, the same for every method: only methods differ."""
        return self.net_stream.child("repetition", self.place.repetition)


@dataclass(frozen=True, kw_only=True)
class Train(Task):
    """Train a net: from its initialisation, or on from where its input has stopped."""

    settings: Training
    until: int  # the number of epochs that are done afterwards

    __hash__ = Task.__hash__

    @property
    def label(self) -> str:
        return f"{self.place.label}: training"

    def fingerprint(self) -> str:
        """A hash of all that the trained net depends on: tasks that share it give the same net.

        The same in every experiment and process. How many epochs an input has trained already
        makes no difference to the net.
        """
        content = {
            "network": self.network.affecting_numbers(),
            "dataset": self.dataset.affecting_numbers(),
            "seed": self.seed,
            "net_seed": self.place.net_seed,
            "settings": self.settings.affecting_numbers(),
            "until": self.until,
        }
        return _short_hash(content)


@dataclass(frozen=True, kw_only=True)
class Prune(Task):
    """Prune the net of its input to a share of the parameters of the original net."""

    method: MethodPart
    keep_ratio: float | None  # None: the method decides it
    sample_size: int | None  # None: as many samples as the theory asks for
    delta: float
    min_kept_per_layer: int
    round_channels: int = 1
    holdout: bool = False  # half of the validation images are set aside for tests, not for S

    __hash__ = Task.__hash__

    @property
    def label(self) -> str:
        return f"{self.place.label}: pruning{_shown_ratio('to', self.keep_ratio)}"


@dataclass(frozen=True, kw_only=True)
class Retrain(Task):
    """Train the pruned net of its first input, from the weights of its second one if it has two."""

    settings: Training
    first_epoch: int  # how many epochs of the settings count as done
    keep_ratio: float | None  # for people

    __hash__ = Task.__hash__

    @property
    def num_epochs(self) -> int:
        """How many epochs it trains for."""
        return self.settings.epochs - self.first_epoch

    @property
    def label(self) -> str:
        return f"{self.place.label}: retraining{_shown_ratio('at', self.keep_ratio)}"


@dataclass(frozen=True, kw_only=True)
class Evaluate(Task):
    """Measure the net of its input on the validation and the test images.

    With `holdout`, half of the validation images are set aside for tests of the guarantee.
    """

    holdout: bool = False

    __hash__ = Task.__hash__

    @property
    def label(self) -> str:
        return f"{self.place.label}: evaluation"


@dataclass(frozen=True, kw_only=True)
class EvaluateCorrupted(Task):
    """Measure the net of its input on the test images after a corruption."""

    corruption: CorruptionName
    severity: int

    __hash__ = Task.__hash__

    @property
    def kind(self) -> str:
        return "evaluate"

    @property
    def label(self) -> str:
        return f"{self.place.label}: {self.corruption} of severity {self.severity}"


def tasks(config: Config) -> list[Task]:
    """All tasks of an experiment, in an order in which they can be executed.

    Tasks are plain data: they can be compared, pickled and counted. See
    `experiment.runs.execution.execute` for how one is executed.

    Example:
        >>> config = experiment.load_config("experiment.yaml")
        >>> [task.key for task in experiment.tasks(config)][:2]
        ['net0/train', 'net0/evaluate']
    """
    if not isinstance(config, Config):
        raise UserError(
            f"tasks needs a configuration, experiment.load_config(path), not {shown(config)}"
        )
    result: list[Task] = []
    for net_seed in range(config.num_nets):
        result += _net_tasks(config, net_seed)
        for repetition in range(config.num_repetitions if steps(config) else 0):
            for index, method in enumerate(config.pruning.methods):
                result += _chain_tasks(config, net_seed, repetition, index, method)
    return result


def num_epochs(tasks: Sequence[Task]) -> list[int]:
    """How many epochs each task trains for.

    A training that goes on from an early checkpoint does not do the epochs before it again.
    """
    until = {task.key: task.until for task in tasks if isinstance(task, Train)}
    epochs = []
    for task in tasks:
        if isinstance(task, Train):
            epochs.append(task.until - sum(until.get(key, 0) for key in task.inputs))
        else:
            epochs.append(task.num_epochs if isinstance(task, Retrain) else 0)
    return epochs


def _net_tasks(config: Config, net_seed: int) -> list[Task]:
    """The training of an unpruned net, and what pruning needs besides the trained net."""
    place = Place(method=REFERENCE, net_seed=net_seed, repetition=0, step=0)
    task = _factory(config, place)
    train = functools.partial(task, Train, settings=config.training)
    trained = _trained(net_seed)
    epochs = config.training.epochs
    if config.pruning.schedule == "rewind":
        early = _early(net_seed)
        training = [
            train(early, until=config.pruning.rewind_epoch),
            train(trained, early, until=epochs),
        ]
    else:
        training = [train(trained, until=epochs)]
    evaluate = functools.partial(task, Evaluate, holdout=config.guarantee is not None)
    evaluation = f"net{net_seed}/evaluate"
    result = [*training, evaluate(evaluation, trained)]
    result += _corrupted_tasks(config, task, evaluation, trained)
    if config.pruning.schedule == "random":
        result.append(train(_initialised(net_seed), until=0))
    return result


def _chain_tasks(
    config: Config, net_seed: int, repetition: int, index: int, method: MethodPart
) -> list[Task]:
    """Everything that one method does with one net: prune, retrain and evaluate at each ratio."""
    label = method.label
    file_name = re.sub(r"[^\w.=-]+", "_", label).encode()[:LONGEST_NAME].decode(errors="ignore")
    chain = f"net{net_seed}/repetition{repetition}/{index}-{file_name}"
    schedule = config.pruning.schedule
    unpruned = _initialised(net_seed) if schedule == "random" else _trained(net_seed)
    own_steps = steps_of(config, method)
    judged_steps = set(judged(own_steps))
    current = unpruned
    result = []
    for step in own_steps:
        place = Place(method=label, net_seed=net_seed, repetition=repetition, step=step.index)
        source = current if step.from_previous else unpruned
        key = f"{chain}/{step.index:03d}"
        of_step = _step_tasks(config, place, key, step, method, source)
        current = _last_net(of_step)
        result += of_step
        if step in judged_steps:
            task = _factory(config, place)
            result += _corrupted_tasks(config, task, f"{key}-evaluate", current)
    return result


def _corrupted_tasks(config: Config, task: Any, key: str, net: str) -> list[Task]:
    """The evaluations of a net on corrupted images. What is asked for later is done in addition."""
    return [
        task(EvaluateCorrupted, f"{key}-{name}-{severity}", net, corruption=name, severity=severity)
        for name, severity in config.evaluation.corrupted
    ]


def _step_tasks(
    config: Config, place: Place, key: str, step: Step, method: MethodPart, source: str
) -> list[Task]:
    """What happens at one keep ratio."""
    task = _factory(config, place)
    pruning = config.pruning
    holdout = config.guarantee is not None
    evaluate = functools.partial(task, Evaluate, holdout=holdout)
    pruned = f"{key}-prune"
    result = [
        task(
            Prune,
            pruned,
            source,
            method=method,
            keep_ratio=step.keep_ratio,
            sample_size=pruning.sample_size,
            delta=pruning.delta,
            min_kept_per_layer=pruning.min_kept_per_layer,
            round_channels=pruning.round_channels,
            holdout=holdout,
        ),
        evaluate(f"{key}-evaluate-pruned", pruned),
    ]
    if step.retrained:
        rewinds = pruning.schedule == "rewind"
        inputs = [pruned, _early(place.net_seed)] if rewinds else [pruned]
        retrained = f"{key}-retrain"
        result += [
            task(
                Retrain,
                retrained,
                *inputs,
                settings=config.retraining,
                first_epoch=pruning.rewind_epoch if rewinds else 0,
                keep_ratio=step.keep_ratio,
            ),
            evaluate(f"{key}-evaluate", retrained),
        ]
    return result


def _factory(config: Config, place: Place) -> Any:
    """A function that makes tasks of any kind, filled in with what those of a place share."""

    def make(kind: type[Task], key: str, *inputs: str, **fields: Any) -> Task:
        return kind(
            key=key,
            inputs=inputs,
            place=place,
            network=config.network,
            dataset=config.dataset,
            seed=config.seed,
            **fields,
        )

    return make


def _last_net(tasks: list[Task]) -> str:
    """The key of the last of these tasks that leads to a net."""
    return next(task.key for task in reversed(tasks) if isinstance(task, Prune | Retrain))


def _initialised(net_seed: int) -> str:
    return f"net{net_seed}/initialise"


def _early(net_seed: int) -> str:
    """The checkpoint that `rewind` goes back to."""
    return f"net{net_seed}/train-early"


def _trained(net_seed: int) -> str:
    return f"net{net_seed}/train"


def _shown_ratio(word: str, keep_ratio: float | None) -> str:
    """The ratio for people, nothing if the method decides it."""
    return "" if keep_ratio is None else f" {word} {keep_ratio:.1%}"


def _short_hash(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]
