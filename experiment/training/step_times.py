"""How long training steps take here, compiled and as written."""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from experiment.config.schema import Training
from experiment.core.seeding import Stream
from experiment.nets.running import device_of, wait_for
from experiment.nets.state import NetState
from experiment.training.lane import Lane
from experiment.training.trainer import Trainer

WARM_UP_STEPS = 5  # in which a step is compiled and, on a GPU, recorded
TIMED_STEPS = 5
SHORTEST_WARM_UP = 10.0  # seconds; compiling has never taken less
LARGEST_SAVING = 0.5  # share of a step's time; compiling a net has never saved more


@dataclass(frozen=True)
class StepTimes:
    """Seconds of a training step."""

    warm_up: float  # of the first steps together
    step: float  # of a later one, the fastest of several


def step_times(trainer: Trainer, net: nn.Module, settings: Training) -> StepTimes:
    """Train a net, in place, for some steps with whole batches."""
    device = device_of(net)
    lane = Lane(device, own_stream=settings.compile == "on")
    seconds = []
    with lane.turn():
        torch.manual_seed(0)
        session = trainer.session(net, NetState.of(net), settings)
        net.train()
        for draws in itertools.islice(_whole_batches(trainer, settings), 10):
            start = time.perf_counter()
            session.step(*draws)
            wait_for(device)
            seconds.append(time.perf_counter() - start)
    return StepTimes(sum(seconds[:WARM_UP_STEPS]), min(seconds[WARM_UP_STEPS:]))


def _whole_batches(trainer: Trainer, settings: Training) -> Iterator[tuple[Tensor, ...]]:
    """The draws of the whole batches of one epoch after the other, without end."""
    split = trainer.data.train
    per_epoch = len(split) // settings.batch_size
    for epoch in itertools.count():
        generator = Stream(0).child(epoch).generator()
        yield from itertools.islice(split.training_draws(settings.batch_size, generator), per_epoch)


def pays_to_compile(
    trainer: Trainer, net: nn.Module, settings: Training, num_steps: int
) -> tuple[bool, dict[str, float]]:
    """Whether compiling saves more time in that many steps than it takes; and what was measured.

    Trains the net, in place. Nothing is compiled if the steps are too few anyway.
    """
    if len(trainer.data.train) < settings.batch_size:  # only whole batches are compiled
        return False, {}
    plain = step_times(trainer, net, settings.model_copy(update={"compile": "off"}))
    measured = {"plain_step": plain.step}
    if num_steps * plain.step * LARGEST_SAVING < SHORTEST_WARM_UP:
        return False, measured
    compiled = step_times(trainer, net, settings.model_copy(update={"compile": "on"}))
    measured |= {"compiled_step": compiled.step, "warm_up": compiled.warm_up}
    return num_steps * (plain.step - compiled.step) > compiled.warm_up, measured
