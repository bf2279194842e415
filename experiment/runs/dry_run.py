"""What an experiment will do and cost, told without doing it."""

from dataclasses import dataclass

import torch
import yaml

from experiment.config.schedules import Step, steps
from experiment.config.schema import Config
from experiment.config.sweeps import Sweep
from experiment.data.loading import largest_sample, num_validation, open_dataset
from experiment.nets.building import build_network
from experiment.runs.execution import cells
from experiment.sensitivity.sample_size import sample_size


def describe(config: Config, path: str) -> str:
    """The resolved configuration, keep ratios, number of trainings and epochs, and |S|, as YAML with comments."""
    planned, cost = planned_steps(config), Cost.of([config])
    lines = [
        f"# {path}, run id {config.run_id()}",
        yaml.safe_dump(config.model_dump(), sort_keys=False).rstrip(),
        f"# keep ratios (* retrained): "
        f"{', '.join(f'{step.keep_ratio:.4g}' + '*' * step.retrained for step in planned) or 'none'}",
        f"# cost: {cost.trainings} trainings of {config.training.epochs} epochs, {cost.prunings} prunings, "
        f"{cost.retrainings} retrainings of {config.retraining.epochs} epochs; {cost.epochs} epochs in all",
        f"# {describe_sample(config)}",
    ]
    return "\n".join(lines)


def describe_sweep(sweep: Sweep, path: str) -> str:
    """The unresolved configuration, the runs, and what they cost together, as YAML with comments."""
    runs, cost = (
        sweep.combinations,
        Cost.of([combination.config for combination in sweep.combinations]),
    )
    lines = [
        f"# {path}, {sweep.sweep_id()}",
        yaml.safe_dump(sweep.values, sort_keys=False).rstrip(),
    ]
    lines += [
        f"# run {index} of {len(runs)}: {run.label}; run id {run.config.run_id()}; {describe_sample(run.config)}"
        for index, run in enumerate(runs, 1)
    ]
    lines.append(
        f"# cost of {len(runs)} runs: {cost.trainings} trainings (what runs share counts once), "
        f"{cost.prunings} prunings, {cost.retrainings} retrainings; {cost.epochs} epochs in all"
    )
    return "\n".join(lines)


@dataclass(frozen=True)
class Cost:
    """What runs take together if nothing of them is done yet; nets that they share are trained once."""

    trainings: int
    prunings: int
    retrainings: int
    epochs: int

    @classmethod
    def of(cls, configs: list[Config]) -> "Cost":
        nets = {
            (config.training_id(), number): config.training.epochs
            for config in configs
            for number in range(config.num_nets)
        }
        prunings = [len(planned_steps(config)) * num_cells(config) for config in configs]
        retrainings = [
            sum(step.retrained for step in planned_steps(config)) * num_cells(config)
            for config in configs
        ]
        epochs = sum(
            count * config.retraining.epochs for count, config in zip(retrainings, configs)
        )
        return cls(len(nets), sum(prunings), sum(retrainings), sum(nets.values()) + epochs)


def num_cells(config: Config) -> int:
    """The number of chains of prunings: nets x repetitions x methods."""
    return len(cells(config, 0)) * config.num_nets


def planned_steps(config: Config) -> list[Step]:
    """The prunings of one cell; none if there are no cells."""
    return steps(config) if num_cells(config) else []


def describe_sample(config: Config) -> str:
    """The parameters of the net and the size of S; and what is to be known of the data."""
    shape = open_dataset(config.dataset).shape()
    net = build_network(
        config.network.name,
        input_shape=shape.input_shape,
        num_classes=shape.num_classes,
        **config.network.options,
    )
    parameters = sum(parameter.numel() for parameter in net.parameters())
    asked = config.pruning.sample_size or sample_size(
        net, torch.zeros(1, *shape.input_shape), config.pruning.delta
    )
    most = largest_sample(num_validation(config.dataset, shape.num_train))
    capped = f", of which half of the validation split allows {most}" if most < asked else ""
    note = f"; {shape.note}" if shape.note else ""
    return f"network: {parameters:,} parameters; sample size |S| = {asked}{capped}{note}"
