"""The keep ratios of an experiment, and what happens at each of them."""

from dataclasses import dataclass

import numpy

from experiment.config.schema import Config, KeepRatios, Pruning
from experiment.core.errors import UserError
from experiment.core.text import shown


@dataclass(frozen=True)
class Step:
    """One pruning of a chain: to which ratio, from which net, and whether it is retrained."""

    index: int  # from 1
    keep_ratio: float
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


def steps(config: Config) -> list[Step]:
    """The prunings of one chain in order.

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


def judged_steps(config: Config) -> list[Step]:
    """The steps by whose nets methods are judged: the retrained ones or, if there are none, all."""
    found = steps(config)
    return [step for step in found if step.retrained] or found


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
    return [(step.keep_ratio, step.retrained) for step in steps(config)]
