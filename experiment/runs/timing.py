"""Measuring, with random images, how fast the parts of experiments are on a device."""

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from experiment.config.schema import Part, Training
from experiment.core.errors import UserError, first_line
from experiment.core.seeding import Stream
from experiment.data.augmentation import Augmentation
from experiment.data.dataset import Shape
from experiment.data.loading import Data
from experiment.data.tensor_split import TensorSplit
from experiment.nets.running import wait_for
from experiment.nets.state import NetState
from experiment.runs.execution import execute
from experiment.runs.records import TrainedRecord
from experiment.runs.results import Result
from experiment.runs.tasks import Prune
from experiment.runs.workplace import Workplace
from experiment.training.recording import WARM_UP_STEPS
from experiment.training.trainer import Fit, Trainer

ROUNDS = 3  # of which the fastest counts
ROUND_SECONDS = 0.4  # about as long is measured in each, or longer if one step takes longer
MOST_STEPS = 50  # in a round
LONGEST_STEP = 3.0  # seconds; steps that would take longer are measured with fewer images
STEP_TO_EVALUATION = 3  # how much longer an image takes in training, roughly; to plan a round
FEWEST_IMAGES = 32  # in an evaluation
MOST_IMAGES = 2048
KEEP_RATIO = 0.5  # of the pruned nets
SAMPLES = (32, 192)  # the sizes of S between which times of prunings are interpolated
FEW_SAMPLES = (8, 24)  # for nets that take longer than ROUND_SECONDS for the larger sample
VARIATIONS = Augmentation(crop_padding=4, horizontal_flip=True)


@dataclass(frozen=True)
class TrainingSpeed:
    """How fast a net is trained in one precision, or why it cannot be."""

    seconds_per_image: float | None = None
    batch_size: int = 0  # that it was measured with
    warm_up_seconds: float = 0.0  # by how much the first steps took longer: compilation, above all
    failure: str = ""


@dataclass(frozen=True)
class PruningSpeed:
    """How long a method takes, a constant and a part for each sample, or why it cannot be used."""

    seconds: float = 0.0
    seconds_per_sample: float = 0.0
    failure: str = ""

    @classmethod
    def between(cls, measured: dict[int, float]) -> "PruningSpeed":
        """The line through the times at two sizes of S; a time never falls with the size."""
        (small, of_small), (large, of_large) = sorted(measured.items())
        slope = max(0.0, (of_large - of_small) / (large - small))
        return cls(of_large - slope * large, slope)

    def at(self, size: int) -> float:
        """Seconds with a sample of that size; 0 for a method that cannot be used."""
        return self.seconds + self.seconds_per_sample * size


def random_data(shape: Shape, num_validation: int, device: torch.device) -> Data:
    """A data set of that shape with hardly any images, except for validation."""
    one = random_split(shape.input_shape, shape.num_classes, 1, device)
    validation = random_split(shape.input_shape, shape.num_classes, num_validation, device)
    return Data(one, validation, one, shape.input_shape, shape.num_classes)


def random_split(
    input_shape: tuple[int, int, int], num_classes: int, count: int, device: torch.device
) -> TensorSplit:
    """Random images, in training padded, cropped and mirrored, with random labels."""
    channels, height, width = input_shape
    generator = Stream(0).child("images").generator()
    images = torch.randint(0, 256, (count, *input_shape), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, num_classes, (count,), generator=generator)
    half = torch.full((channels,), 0.5)
    return TensorSplit(images, labels, half, half, (height, width), VARIATIONS).to(device)


def measure_evaluation(workplace: Workplace, network: Part) -> float:
    """Seconds to evaluate one image, out of as many as take a while.

    Raises UserError if the net cannot be evaluated here.
    """
    net = workplace.net(network)
    data = workplace.data
    count = FEWEST_IMAGES
    while True:
        split = random_split(data.input_shape, data.num_classes, count, workplace.device)
        evaluate = functools.partial(workplace.trainer.evaluate, net, split)
        try:
            seconds = min(timed(evaluate, workplace.device) for _ in range(ROUNDS))
        except Exception as error:  # the net may be the user's own
            raise UserError(
                f"network {network.name} cannot be evaluated on {workplace.device}: "
                f"{_reason(error)}"
            ) from error
        if seconds >= ROUND_SECONDS or count >= MOST_IMAGES:
            return seconds / count
        count *= 4


def sample_sizes(evaluation: float) -> tuple[int, int]:
    """The sizes of S with which to measure prunings of a net, by the time to evaluate an image."""
    return SAMPLES if evaluation * SAMPLES[-1] <= ROUND_SECONDS else FEW_SAMPLES


def measure_training(
    workplace: Workplace,
    network: Part,
    versions: Sequence[Training],
    nets: int,
    evaluation: float,
) -> list[TrainingSpeed]:
    """The speed of each version of some settings, of pruned nets, `nets` of them at once.

    `evaluation` is the time to evaluate an image, from which the number of steps is planned. The
    learning rate is 0, so that no training diverges. The versions take turns.
    """
    per_image = STEP_TO_EVALUATION * evaluation * nets
    batch_size = max(2, versions[0].batch_size)  # BatchNorm cannot train on one image
    while batch_size > 3 and batch_size * per_image > LONGEST_STEP:
        batch_size //= 2
    num_steps = max(1, min(MOST_STEPS, round(ROUND_SECONDS / (batch_size * per_image))))
    measured = [_measured(settings, batch_size) for settings in versions]
    clock = StepClock(workplace.device, num_steps * nets)
    trainer = _trainer(workplace, batch_size * (clock.warm_up_steps + num_steps), clock)
    speeds: dict[int, TrainingSpeed] = {}
    for _ in range(ROUNDS):
        for number, settings in enumerate(measured):
            if number in speeds and speeds[number].failure:
                continue
            fits = [_fit(workplace, network, settings, seat) for seat in range(nets)]
            speed = _speed(trainer, fits, clock)
            speeds[number] = _faster(speed, speeds.get(number, speed))
    return [speeds[number] for number in range(len(versions))]


def _measured(settings: Training, batch_size: int) -> Training:
    optimizer = settings.optimizer.model_copy(update={"lr": 0.0})
    changed = {"epochs": 1, "warmup_epochs": 0, "batch_size": batch_size, "optimizer": optimizer}
    return settings.model_copy(update=changed)


class StepClock:
    """A display of a training that reads the clock: after warming up, and after the last step."""

    def __init__(self, device: torch.device, timed_steps: int):
        self.device = device
        self.timed_steps = timed_steps  # of all nets that are trained at once
        self.warm_up_steps = 1 if device.type == "cpu" else WARM_UP_STEPS + 2

    def begin(self, total: int, label: str) -> "StepClock":
        """A training of `total` steps begins."""
        self.remaining = total
        self.readings = [time.perf_counter()]
        return self

    def update(self, sums: Tensor) -> None:
        self.remaining -= 1
        if self.remaining in (self.timed_steps, 0):
            wait_for(self.device)
            self.readings.append(time.perf_counter())

    def close(self) -> None:
        pass


def _trainer(workplace: Workplace, num_images: int, clock: StepClock) -> Trainer:
    data = workplace.data
    split = random_split(data.input_shape, data.num_classes, num_images, workplace.device)
    validation = split.subset(torch.arange(1))
    return Trainer(replace(data, train=split, validation=validation), clock.begin)


def _fit(workplace: Workplace, network: Part, settings: Training, seat: int) -> Fit:
    net = workplace.net(network, seat)
    return Fit(net=net, state=_half_pruned(net), settings=settings, stream=Stream(seat))


def _half_pruned(net: torch.nn.Module) -> NetState:
    """The net's state with random masks: trainings of pruned nets are what most time goes into."""
    generator = Stream(0).child("masks").generator()
    masks = {
        name: torch.rand(parameter.shape, generator=generator) < KEEP_RATIO
        for name, parameter in net.named_parameters()
    }
    return NetState.of(net, masks)


def _speed(trainer: Trainer, fits: list[Fit], clock: StepClock) -> TrainingSpeed:
    for outcome in trainer.fit_together(fits):
        if isinstance(outcome, Exception):
            _free_memory()
            return TrainingSpeed(failure=_reason(outcome))
    start, warm, end = clock.readings
    batch_size = fits[0].settings.batch_size
    per_step = (end - warm) / clock.timed_steps
    warm_up = warm - start - clock.warm_up_steps * len(fits) * per_step
    return TrainingSpeed(per_step / batch_size, batch_size, max(0.0, warm_up))


def _faster(one: TrainingSpeed, other: TrainingSpeed) -> TrainingSpeed:
    """The faster of two rounds, with the longer warm-up: nets are compiled in the first one."""
    if one.seconds_per_image is None or other.seconds_per_image is None:
        return one
    return replace(
        one,
        seconds_per_image=min(one.seconds_per_image, other.seconds_per_image),
        warm_up_seconds=max(one.warm_up_seconds, other.warm_up_seconds),
    )


def measure_pruning(
    workplace: Workplace, task: Prune, sizes: tuple[int, int]
) -> tuple[PruningSpeed, PruningSpeed]:
    """The speed of pruning an initialised net, for the first time and once more."""
    source = Result(TrainedRecord(epochs=[], seconds=0.0), workplace.initial_state(task))
    first: dict[int, float] = {}
    again: dict[int, float] = {}

    def seconds(size: int) -> float:
        ratio = None if task.method.decides_size else KEEP_RATIO
        pruning = replace(task, sample_size=size, keep_ratio=ratio)
        return timed(lambda: execute(pruning, [source], workplace), workplace.device)

    try:
        seconds(1)  # loads the compilers of kernels
        for size in sizes:
            first[size] = seconds(size)
            again[size] = seconds(size)  # by the same pruner, which the workplace has kept
    except Exception as error:  # a method may be the user's own
        _free_memory()
        failed = PruningSpeed(failure=_reason(error))
        return failed, failed
    return PruningSpeed.between(first), PruningSpeed.between(again)


def timed(function: Callable[[], object], device: torch.device) -> float:
    """Seconds that a function takes."""
    wait_for(device)
    start = time.perf_counter()
    function()
    wait_for(device)
    return time.perf_counter() - start


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, UserError) else first_line(error)


def _free_memory() -> None:
    """What a failure has left on the GPU would be missing for what is measured next."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
