"""What an experiment will do and cost, told without doing it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from experiment.config.schedules import schedule
from experiment.config.schema import Config, Training
from experiment.config.sweeps import Sweep
from experiment.config.yaml_syntax import dump
from experiment.core.text import visible
from experiment.data.dataset import Shape
from experiment.data.loading import (
    allowed_sample_size,
    num_choosing,
    num_validation,
    shape_of,
)
from experiment.nets.building import build_network
from experiment.nets.weights import load_weights
from experiment.pruning.method import build_method
from experiment.runs.cost import Cost, Hours, epochs_of, hours, without_shared_trainings
from experiment.runs.holdout import all_doubts
from experiment.runs.tasks import Prune, Retrain, tasks
from experiment.sensitivity.sample_size import sample_size
from experiment.training.precision import Precision

if TYPE_CHECKING:  # measuring takes long to import, and a dry run without it none of that
    from experiment.runs.speeds import MeasuredSpeeds
    from experiment.runs.timing import TrainingSpeed


def describe(config: Config, path: str) -> str:
    """The resolved configuration, keep ratios, cost and |S|, as YAML with comments."""
    shape = shape_of(config.dataset)
    planned = tasks(config)
    cost = Cost.of(planned)
    retrainings = (task.num_epochs for task in planned if isinstance(task, Retrain))
    retraining_epochs = next(retrainings, config.retraining.epochs)
    ratios = [f"{ratio:.4g}" + "*" * retrained for ratio, retrained in schedule(config)]
    lines = [
        f"# {visible(path)}, run id {config.run_id()}",
        dump(config.model_dump()).rstrip(),
        f"# keep ratios (* retrained): {', '.join(ratios) or 'none'}{_not_for(config)}",
        f"# cost: {cost.trainings} trainings of {config.training.epochs} epochs, "
        f"{cost.prunings} prunings, {cost.retrainings} retrainings of "
        f"{retraining_epochs} epochs; {cost.epochs} epochs in all",
        *describe_corrupted(cost, [shape]),
        f"# {describe_sample(config, shape)}",
        *warnings(config, shape),
    ]
    return "\n".join(lines)


def _not_for(config: Config) -> str:
    """The methods to which keep ratios do not apply, to add to a line."""
    deciding = [method.label for method in config.pruning.methods if method.decides_size]
    return f"; not for {', '.join(deciding)}" if deciding else ""


def describe_corrupted(cost: Cost, shapes: Sequence[Shape]) -> list[str]:
    """How often nets are evaluated on corrupted images, as a YAML comment if they are at all."""
    if not cost.corrupted:
        return []
    sizes = dict.fromkeys(
        "the" if shape.num_test is None else f"{shape.num_test:,}" for shape in shapes
    )
    return [f"# cost: {cost.corrupted:,} evaluations on {' or '.join(sizes)} corrupted test images"]


def warnings(config: Config, shape: Shape) -> list[str]:
    """What may be a mistake in a configuration, as YAML comments."""
    num_set_aside = num_validation(config.dataset, shape.num_train)
    found = all_doubts(config, shape.num_train - num_set_aside, num_set_aside)
    return [f"# warning: {doubt}" for doubt in found]


def describe_sweep(sweep: Sweep, path: str) -> str:
    """The unresolved configuration, the runs, and what they cost together, as YAML comments."""
    runs = sweep.combinations
    shapes = [shape_of(run.config.dataset) for run in runs]
    cost = Cost.of([task for run in runs for task in tasks(run.config)])
    lines = [
        f"# {visible(path)}, {sweep.sweep_id()}",
        dump(sweep.values).rstrip(),
    ]
    lines += [
        f"# run {index} of {len(runs)}: {run.label}; run id {run.config.run_id()}; "
        f"{describe_sample(run.config, shape)}"
        for index, (run, shape) in enumerate(zip(runs, shapes), 1)
    ]
    lines.append(
        f"# cost of {len(runs)} runs: {cost.trainings} trainings (what runs share counts once), "
        f"{cost.prunings} prunings, {cost.retrainings} retrainings; {cost.epochs} epochs in all"
    )
    lines += describe_corrupted(cost, shapes)
    of_runs = [line for run, shape in zip(runs, shapes) for line in warnings(run.config, shape)]
    return "\n".join([*lines, *dict.fromkeys(of_runs)])


def describe_sample(config: Config, shape: Shape) -> str:
    """The parameters of the net, the size of S, and what is to be known of the data."""
    net = build_network(
        config.network.name,
        input_shape=shape.input_shape,
        num_classes=shape.num_classes,
        **config.network.options,
    )
    if config.network.weights is not None:
        load_weights(net, config.network.weights, "network.weights: ")
    num_parameters = sum(parameter.numel() for parameter in net.parameters())
    for method in config.pruning.methods:
        build_method(method.name, method.options)
    example = torch.zeros(1, *shape.input_shape)
    asked = config.pruning.sample_size or sample_size(net, example, config.pruning.delta)
    num_images = num_validation(config.dataset, shape.num_train)
    is_divided = config.guarantee is not None
    allowed = allowed_sample_size(asked, num_choosing(num_images, is_divided))
    share = "a quarter" if is_divided else "half"
    capped = (
        f", of which {share} of the validation split allows {allowed}" if allowed < asked else ""
    )
    note = f"; {visible(shape.note)}" if shape.note else ""
    return f"network: {num_parameters:,} parameters; sample size |S| = {asked}{capped}{note}"


@dataclass(frozen=True)
class Estimate:
    """What the experiments of a file cost together, in hours for each precision."""

    path: str
    network: str
    cost: Cost
    hours: dict[Precision, Hours | None]  # None: the net cannot be trained in it here

    @classmethod
    def of(cls, configs: Sequence[Config], path: str, speeds: "MeasuredSpeeds") -> "Estimate":
        """Measures whatever `speeds` does not know yet. Raises UserError if that is impossible."""
        planned = [task for config in configs for task in tasks(config)]
        found: dict[Precision, Hours | None] = {
            "float32": hours(configs, speeds, "float32"),
            "bfloat16": hours(configs, speeds, "bfloat16"),
        }
        networks = dict.fromkeys(config.network.name for config in configs)
        return cls(path, ", ".join(networks), Cost.of(planned), found)

    @property
    def row(self) -> str:
        """A row of a table in Markdown."""
        cost = self.cost
        cells = [
            f"`{visible(self.path)}`",
            visible(self.network),
            f"{cost.trainings + cost.retrainings:,}",
            f"{cost.epochs:,}",
            *("-" if found is None else number(found.total) for found in self.hours.values()),
            self._ratio,
        ]
        return f"| {' | '.join(cells)} |"

    @property
    def _ratio(self) -> str:
        """Of the hours in float32 to those in bfloat16."""
        float32, bfloat16 = self.hours["float32"], self.hours["bfloat16"]
        if float32 is None or bfloat16 is None or bfloat16.total == 0:
            return "-"
        return f"{float32.total / bfloat16.total:.2f}"


def describe_estimates(estimates: Sequence[Estimate]) -> str:
    """A table in Markdown, one row for each file."""
    header = "| file | network | trainings | epochs | hours, float32 | hours, bfloat16 | ratio |"
    return "\n".join([header, "|---|---|---|---|---|---|---|", *(one.row for one in estimates)])


def describe_time(configs: Sequence[Config], estimate: Estimate, speeds: "MeasuredSpeeds") -> str:
    """What was measured, and the hours that follow from it, as YAML comments."""
    lines = [f"time on {speeds.device_name}, with random images: reading files is not counted"]
    if any(speeds.shape(config).num_test is None for config in configs):
        lines.append("the data set does not tell how many test images it has: none are counted")
    lines += dict.fromkeys(_training_lines(configs, speeds))
    rates = dict.fromkeys(f"{number(1 / speeds.evaluation(config))}" for config in configs)
    lines.append(f"evaluation: {', '.join(rates)} images/s")
    lines += _pruning_lines(configs, speeds)
    for precision, found in estimate.hours.items():
        lines.append(f"{precision}: {_hours_in_words(found)}")
    return "\n".join(f"# {line}" for line in [*lines, *_comparison(estimate)])


def _training_lines(configs: Sequence[Config], speeds: "MeasuredSpeeds") -> list[str]:
    """The speeds of each kind of training."""
    lines = []
    for config, own in zip(configs, without_shared_trainings(configs)):
        for settings, _ in epochs_of(own):
            found = speeds.training_speeds(config, settings)
            told = "; ".join(
                f"{precision} {_speed_in_words(speed, settings)}"
                for precision, speed in found.items()
            )
            kind = f"{settings.optimizer.name}, batches of {settings.batch_size}"
            lines.append(f"training by {kind}: {told}")
    return lines


def _speed_in_words(speed: "TrainingSpeed", settings: Training) -> str:
    if speed.seconds_per_image is None:
        return f"fails: {speed.failure}"
    words = f"{number(1 / speed.seconds_per_image)} images/s"
    if speed.batch_size < settings.batch_size:
        words += f" (measured in batches of {speed.batch_size})"
    if settings.compile == "on":
        words += f" after {speed.warm_up_seconds:.0f} s of compiling, which the hours do not count"
    if settings.compile == "auto":
        words += " (not compiled)"
    return words


def _pruning_lines(configs: Sequence[Config], speeds: "MeasuredSpeeds") -> list[str]:
    """The seconds that each method takes, and why some cannot be used."""
    seconds: dict[str, list[float]] = {}
    failures: dict[str, str] = {}
    for config in configs:
        methods = {task.place.method: task for task in tasks(config) if isinstance(task, Prune)}
        for method, task in methods.items():
            speed, _ = speeds.pruning_speeds(config, task)
            if speed.failure:
                failures[method] = speed.failure
                continue
            seconds.setdefault(method, []).append(speed.at(speeds.sample_size(config)))
    lines = [f"pruning by {method} fails: {reason}" for method, reason in failures.items()]
    if seconds:
        told = (f"{method} {_range(found)} s" for method, found in seconds.items())
        lines.append(f"pruning once: {', '.join(told)}")
    return lines


def _range(values: list[float]) -> str:
    smallest, largest = f"{min(values):.2g}", f"{max(values):.2g}"
    return smallest if smallest == largest else f"{smallest} to {largest}"


def _hours_in_words(found: Hours | None) -> str:
    if found is None:
        return "not possible here"
    return (
        f"{number(found.total)} hours ({number(found.training)} training, "
        f"{number(found.evaluation)} evaluation, {number(found.pruning)} pruning)"
    )


def _comparison(estimate: Estimate) -> list[str]:
    """Which precision trains faster, if anything is trained in both."""
    training = {name: found.training for name, found in estimate.hours.items() if found}
    if len(training) < 2 or not all(training.values()):
        return []
    faster, slower = sorted(training, key=lambda precision: training[precision])
    factor = training[slower] / training[faster]
    return [f"training in {faster} is {factor:.2f} times as fast here as in {slower}"]


def number(value: float) -> str:
    """Three digits, or all that come before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
