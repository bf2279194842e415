"""What an experiment will do and cost, told without doing it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import yaml

from experiment.config.schedules import schedule
from experiment.config.schema import Config
from experiment.config.sweeps import Sweep
from experiment.data.loading import allowed_sample_size, num_validation, open_dataset
from experiment.nets.building import build_network
from experiment.runs.tasks import Prune, Retrain, Task, Train, tasks
from experiment.sensitivity.sample_size import sample_size


@dataclass(frozen=True)
class Cost:
    """What tasks take together if nothing is done yet; equal trainings are done once."""

    trainings: int
    prunings: int
    retrainings: int
    epochs: int

    @classmethod
    def of(cls, tasks: Sequence[Task]) -> "Cost":
        trainings = {task.fingerprint(): task for task in tasks if isinstance(task, Train)}
        # What only leads to an early checkpoint is a part of a training that goes on from there.
        whole = [task for task in trainings.values() if task.until >= task.settings.epochs]
        retrainings = [task for task in tasks if isinstance(task, Retrain)]
        epochs = sum(task.until for task in whole)
        epochs += sum(task.num_epochs for task in retrainings)
        prunings = sum(isinstance(task, Prune) for task in tasks)
        return cls(len(whole), prunings, len(retrainings), epochs)


def describe(config: Config, path: str) -> str:
    """The resolved configuration, keep ratios, cost and |S|, as YAML with comments."""
    planned = tasks(config)
    cost = Cost.of(planned)
    retrainings = (task.num_epochs for task in planned if isinstance(task, Retrain))
    retraining_epochs = next(retrainings, config.retraining.epochs)
    ratios = [f"{ratio:.4g}" + "*" * retrained for ratio, retrained in schedule(config)]
    lines = [
        f"# {path}, run id {config.run_id()}",
        yaml.safe_dump(config.model_dump(), sort_keys=False).rstrip(),
        f"# keep ratios (* retrained): {', '.join(ratios) or 'none'}",
        f"# cost: {cost.trainings} trainings of {config.training.epochs} epochs, "
        f"{cost.prunings} prunings, {cost.retrainings} retrainings of "
        f"{retraining_epochs} epochs; {cost.epochs} epochs in all",
        f"# {describe_sample(config)}",
    ]
    return "\n".join(lines)


def describe_sweep(sweep: Sweep, path: str) -> str:
    """The unresolved configuration, the runs, and what they cost together, as YAML comments."""
    runs = sweep.combinations
    cost = Cost.of([task for run in runs for task in tasks(run.config)])
    lines = [
        f"# {path}, {sweep.sweep_id()}",
        yaml.safe_dump(sweep.values, sort_keys=False).rstrip(),
    ]
    lines += [
        f"# run {index} of {len(runs)}: {run.label}; run id {run.config.run_id()}; "
        f"{describe_sample(run.config)}"
        for index, run in enumerate(runs, 1)
    ]
    lines.append(
        f"# cost of {len(runs)} runs: {cost.trainings} trainings (what runs share counts once), "
        f"{cost.prunings} prunings, {cost.retrainings} retrainings; {cost.epochs} epochs in all"
    )
    return "\n".join(lines)


def describe_sample(config: Config) -> str:
    """The parameters of the net, the size of S, and what is to be known of the data."""
    shape = open_dataset(config.dataset).shape()
    net = build_network(
        config.network.name,
        input_shape=shape.input_shape,
        num_classes=shape.num_classes,
        **config.network.options,
    )
    num_parameters = sum(parameter.numel() for parameter in net.parameters())
    example = torch.zeros(1, *shape.input_shape)
    asked = config.pruning.sample_size or sample_size(net, example, config.pruning.delta)
    allowed = allowed_sample_size(asked, num_validation(config.dataset, shape.num_train))
    capped = f", of which half of the validation split allows {allowed}" if allowed < asked else ""
    note = f"; {shape.note}" if shape.note else ""
    return f"network: {num_parameters:,} parameters; sample size |S| = {asked}{capped}{note}"
