"""What an experiment will do and cost, told without doing it."""

import torch
import yaml

from experiment.config import Config
from experiment.data.splits import largest_sample, num_validation, open_dataset
from experiment.networks.build import build_network
from experiment.run import cells
from experiment.schedules import steps
from experiment.sensitivity.sample_size import sample_size


def describe(config: Config, path: str) -> str:
    """The resolved configuration, keep ratios, number of trainings and epochs, and |S|, as YAML with comments."""
    num_cells = len(cells(config, 0)) * config.num_nets
    planned = steps(config) if num_cells else []
    retrainings = num_cells * sum(step.retrained for step in planned)
    epochs = config.num_nets * config.training.epochs + retrainings * config.retraining.epochs
    lines = [
        f"# {path}, run id {config.run_id()}",
        yaml.safe_dump(config.model_dump(), sort_keys=False).rstrip(),
        f"# keep ratios (* retrained): "
        f"{', '.join(f'{step.keep_ratio:.4g}' + '*' * step.retrained for step in planned) or 'none'}",
        f"# cost: {config.num_nets} trainings of {config.training.epochs} epochs, {num_cells * len(planned)} prunings, "
        f"{retrainings} retrainings of {config.retraining.epochs} epochs; {epochs} epochs in all",
        f"# {describe_sample(config)}",
    ]
    return "\n".join(lines)


def describe_sample(config: Config) -> str:
    """The parameters of the net and the size of S."""
    shape = open_dataset(config.dataset).shape()
    net = build_network(config.network.name, input_shape=shape.input_shape, num_classes=shape.num_classes,
                        **config.network.options)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    asked = config.pruning.sample_size or sample_size(net, torch.zeros(1, *shape.input_shape), config.pruning.delta)
    most = largest_sample(num_validation(config.dataset, shape.num_train))
    capped = f", of which half of the validation split allows {most}" if most < asked else ""
    return f"network: {parameters:,} parameters; sample size |S| = {asked}{capped}"
