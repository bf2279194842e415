"""The keep ratios of an experiment, and what happens at each of them."""

from dataclasses import dataclass

import numpy

from experiment.config.schema import Config, KeepRatios, MethodPart, Pruning
from experiment.core.errors import UserError
from experiment.core.text import shown


@dataclass(frozen=True)
class Step:
    """One pruning of a chain: to which ratio, from which net, and whether it is retrained."""

    index: int  # from 1
    keep_ratio: float | None  # None: the method decides it
    retrained: bool
    from_previous: bool  # prune the result of the step before; otherwise the unpruned net


def spaced(spec: KeepRatios) -> list[float]:
    """The ratios of one entry of `keep_ratios`, from first to last, both included."""
    if spec.spacing == "manual":
        return list(spec.values)
    first, last, count = spec.first, spec.last, spec.count
    if count == 1:
        return [first]
    if spec.spacing == "geometric":
        values = numpy.geomspace(first, last, count)
    elif spec.spacing == "linear":
        values = numpy.linspace(first, last, count)
    elif spec.spacing == "harmonic":
        values = 1 / numpy.linspace(1 / first, 1 / last, count)
    else:  # cubic (Zhu & Gupta 2017, equation 1, with one step per ratio)
        values = last + (first - last) * (1 - numpy.arange(count) / (count - 1)) ** 3
    return [first, *(float(value) for value in values[1:-1]), last]


def keep_ratios(pruning: Pruning) -> list[float]:
    """All keep ratios in the order in which they are visited."""
    if pruning.schedule == "train":
        return []
    return [ratio for spec in pruning.keep_ratios for ratio in spaced(spec)]


def steps_of(config: Config, method: MethodPart) -> list[Step]:
    """The prunings of a method on one net in order: a single one if it decides the size."""
    if not method.decides_size or config.pruning.schedule == "train":
        return steps(config)
    return [Step(1, None, config.pruning.retrain_count != 0, from_previous=False)]


def steps(config: Config) -> list[Step]:
    """The prunings of one chain in order, by a method that is given keep ratios.

    With fewer retrainings than ratios, the ratios are split into that many consecutive groups as
    `numpy.array_split` does; the net is retrained at the last ratio of each group, and only pruned
    at those before it.
    """
    ratios = keep_ratios(config.pruning)
    asked = config.pruning.retrain_count
    count = len(ratios) if asked is None else min(asked, len(ratios))
    groups = numpy.array_split(numpy.arange(len(ratios)), count) if count else []
    retrained = {int(group[-1]) for group in groups if len(group)}
    chained = config.pruning.schedule in ("cascade", "rewind")
    return [
        Step(index + 1, ratio, index in retrained, chained and index > 0)
        for index, ratio in enumerate(ratios)
    ]


def judged(steps: list[Step]) -> list[Step]:
    """The steps by whose nets a method is judged: the retrained ones or, if there are none, all."""
    return [step for step in steps if step.retrained] or steps


def schedule(config: Config) -> list[tuple[float, bool]]:
    """The keep ratios of an experiment in order, each with whether the net is retrained there.

    Example:
        >>> experiment.schedule(experiment.load_config("experiment.yaml"))
        [(0.5, True), (0.2, True)]
    """
    if not isinstance(config, Config):
        raise UserError(
            f"schedule needs a configuration, experiment.load_config(path), not {shown(config)}"
        )
    found = steps(config)
    return [(ratio, step.retrained) for ratio, step in zip(keep_ratios(config.pruning), found)]
