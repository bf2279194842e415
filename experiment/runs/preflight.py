"""Trying all parts of experiments on a few random images, so that mistakes are found at once.

What fails here would otherwise fail after hours of training.
"""

from dataclasses import replace

import torch

from experiment.config.doubts import doubts
from experiment.config.schema import Config, LrDrops
from experiment.core.errors import UserError
from experiment.core.own_code import exits_as_errors
from experiment.core.seeding import Stream
from experiment.data.dataset import Shape
from experiment.data.loading import Data, num_validation, shape_of
from experiment.pruning.method import build_method
from experiment.reporting.tracking import require_trackers
from experiment.runs.engines.engine import Failure
from experiment.runs.tasks import Prune, Retrain, Task, Train, tasks
from experiment.runs.timing import random_split
from experiment.runs.workplace import Workplace
from experiment.training.trainer import Fit

NUM_IMAGES = 4
LABEL = "preflight"
STREAM = Stream(0).child(LABEL)


class Preflight:
    """Tries experiments on a device; what several of them have in common is tried once."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self._shapes: dict[str, Shape] = {}
        self._tried: dict[tuple[str, ...], Exception | None] = {}

    def check(self, config: Config) -> list[str]:
        """Build the data set, the network and the methods, train for a step and prune once.

        Returns:
            One line for each setting that may be a mistake.

        Raises:
            UserError: with one line for each mistake.
        """
        require_trackers((part.name, part.options) for part in config.logging)
        shape = self._shape(config)
        num_set_aside = num_validation(config.dataset, shape.num_train)
        images = random_split(shape.input_shape, shape.num_classes, NUM_IMAGES, self.device)
        data = Data(images, images, images, shape.input_shape, shape.num_classes)
        workplace = Workplace(data, self.device)
        of_images = (str(shape.input_shape), str(shape.num_classes))
        failed: dict[str, Exception] = {}
        for task in tasks(config):
            key = (*_kind(task), *of_images)
            if key not in self._tried:
                self._tried[key] = _error(task, workplace)
            error = self._tried[key]
            if error is not None:
                failed[_described(task, error)] = error
                if not isinstance(task, Prune):
                    break  # nothing can be pruned either
        if failed:
            raise UserError(*failed) from ExceptionGroup("mistakes", [*failed.values()])
        return doubts(config, shape.num_train - num_set_aside, num_set_aside)

    def _shape(self, config: Config) -> Shape:
        """The shape of the data set, whose files are listed once."""
        key = config.dataset.model_dump_json()
        if key not in self._shapes:
            self._shapes[key] = shape_of(config.dataset)
        return self._shapes[key]


def _kind(task: Task) -> tuple[str, ...]:
    """What the tasks that need not be tried as well have in common."""
    network = task.network.model_dump_json()
    if isinstance(task, Train | Retrain):
        settings = task.settings
        return network, settings.optimizer.name, settings.precision
    if isinstance(task, Prune):
        manner = (str(task.min_kept_per_layer), str(task.round_channels))
        return network, task.method.model_dump_json(), *manner
    return (network,)


def _error(task: Task, workplace: Workplace) -> Exception | None:
    """What goes wrong with a task on the images of a workplace."""
    try:
        with exits_as_errors():
            if isinstance(task, Train | Retrain):
                train(task, workplace)
            elif isinstance(task, Prune):
                prune(task, workplace)
    except Exception as error:  # parts may be people's own code
        return error
    return None


def _described(task: Task, error: Exception) -> str:
    """The line that tells of an error."""
    message = Failure.of(error).message
    part = (
        f"method {task.place.method}" if isinstance(task, Prune) else f"network {task.network.name}"
    )
    return message if message.startswith(part) else f"{part}: {message}"


def train(task: Train | Retrain, workplace: Workplace) -> None:
    """Train the untrained net for a step, with a learning rate of 0, and evaluate it."""
    settings = task.settings.model_copy(
        update={
            "epochs": 1,
            "batch_size": NUM_IMAGES,
            "optimizer": task.settings.optimizer.model_copy(update={"lr": 0.0}),
            "warmup_epochs": 0,
            "lr_drops": LrDrops(),
            "compile": "off",
        }
    )
    workplace.layers(task.network)  # a net that cannot run on the images is told of best here
    fit = Fit(
        net=workplace.net(task.network),
        state=workplace.initial_state(task),
        settings=settings,
        stream=STREAM,
        label=LABEL,
    )
    workplace.trainer.fit(fit)


def prune(task: Prune, workplace: Workplace) -> None:
    """Prune the untrained net once, without the search for the size."""
    sampled = replace(task, sample_size=NUM_IMAGES)
    pruner = workplace.pruner(sampled, workplace.initial_state(task))
    pruner.try_out(build_method(task.method.name, task.method.options), task.keep_ratio, STREAM)
