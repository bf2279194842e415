"""A trained net of an experiment, as everything that the command guarantee measures takes it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from torch import nn

from experiment.certification.fresh_points import FreshPoints
from experiment.core.errors import UserError
from experiment.core.seeding import Stream
from experiment.data.split import Split
from experiment.nets.running import copy_of
from experiment.nets.state import NetState
from experiment.pruning.method import build_method
from experiment.pruning.pruned import Pruned
from experiment.pruning.pruner import Pruner
from experiment.runs.tasks import Prune, Task
from experiment.runs.workplace import Workplace

BATCH = 32  # of fresh images


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What to measure on."""

    num_fresh: int = 200  # test images on which units are looked at
    points_per_sample: int = 8  # of each image and layer
    sample_sizes: tuple[int, ...] = ()  # of S; none: the experiment's own, a quarter, a sixteenth
    bounds: bool = False  # whether to compare other bounds of units
    share: float = 0.05  # of new images, that may have a larger error than what is certified
    confidence: float = 0.95  # of what is certified about outputs

    def __post_init__(self) -> None:
        if min(self.num_fresh, self.points_per_sample, *self.sample_sizes) < 1:
            raise UserError("--fresh, --points and --sample-sizes must be at least 1")
        if not (0 < self.share < 1 and 0 < self.confidence < 1):
            raise UserError("--share and --confidence must be between 0 and 1")

    @property
    def suffix(self) -> str:
        """What tells the options in names of files, so that no table overwrites another.

        `--bounds` adds a table, and changes none.
        """
        default = Measurement()
        parts = []
        if (self.num_fresh, self.points_per_sample) != (
            default.num_fresh,
            default.points_per_sample,
        ) or self.sample_sizes:
            parts = [f"{self.num_fresh}x{self.points_per_sample}", *map(str, self.sample_sizes)]
        if (self.share, self.confidence) != (default.share, default.confidence):
            parts += [f"share{self.share:g}", f"confidence{self.confidence:g}"]
        return "".join(f"-{part}" for part in parts)


@dataclass(frozen=True)
class NetUnderTest:
    """A trained net and its prunings, each of which starts from it; those of one repetition."""

    prunings: list[Prune]
    trained: NetState
    workplace: Workplace
    measurement: Measurement

    @classmethod
    def of(
        cls, of_net: list[Task], trained: NetState, workplace: Workplace, measurement: Measurement
    ) -> "NetUnderTest":
        """A net, from all tasks that concern it."""
        prunings = [
            task for task in of_net if isinstance(task, Prune) and task.place.repetition == 0
        ]
        return cls(prunings, trained, workplace, measurement)

    @property
    def first(self) -> Prune:
        """The first pruning, with the largest sample size that was asked for, if any was."""
        largest = max(self.measurement.sample_sizes, default=None)
        task = self.prunings[0]
        return task if largest is None else replace(task, sample_size=largest)

    @property
    def names(self) -> dict[str, str]:
        """Columns of all tables."""
        return {"network": self.first.network.name, "dataset": self.first.dataset.name}

    @property
    def stream(self) -> Stream:
        """The random stream of all that is drawn here."""
        return self.first.net_stream.child("guarantee")

    def pruner(self, sample_size: int | None = None) -> Pruner:
        """A pruner with as many samples, or as many as `first` has."""
        task = self.first
        if sample_size is not None:
            task = replace(task, sample_size=sample_size)
        return self.workplace.pruner(task, self.trained)

    def each_pruned(self, pruner: Pruner) -> Iterator[tuple[Prune, Pruned]]:
        """All prunings, each from the trained net."""
        for task in self.prunings:
            method = build_method(task.method.name, task.method.options)
            stream = self.stream.child("prune", task.place.step)
            yield task, pruner.prune(method, task.keep_ratio, stream)

    def unpruned(self) -> nn.Module:
        """A copy of the net."""
        net = copy_of(self.workplace.net(self.first.network))
        self.trained.load_into(net)
        return net

    @property
    def fresh(self) -> Split:
        """Some test images."""
        test = self.workplace.data.test
        order = self.stream.child("images").permutation(len(test))
        return test.subset(order[: self.measurement.num_fresh])

    @cached_property
    def fresh_points(self) -> FreshPoints:
        """Points that its layers see on these."""
        return self.points_of(self.fresh, self.measurement.points_per_sample, "points")

    def points_of(self, images: Split, per_image: int, name: str) -> FreshPoints:
        """Points that its layers see on some images, drawn by the random stream of that name."""
        layers = self.workplace.layers(self.first.network).prunable
        batches = images.batches(BATCH)
        return FreshPoints(self.unpruned(), batches, layers, per_image, self.stream.child(name))

    def sample_and_rest(self) -> tuple[Split, Split]:
        """The images of S, and those that had no part in making or choosing pruned nets."""
        task = self.first
        data = self.workplace.data_of(task)
        size = self.workplace.sample_size(task)
        sample, rest = data.sample_and_rest(size, self.workplace.sample_stream(task))
        return sample, self.workplace.divided(task.seed)[1] if task.holdout else rest
