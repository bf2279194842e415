"""What every pruning method is: something that chooses weights. The rest is done once, by the Pruner."""

import abc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy
from torch import Tensor

from experiment.masks import Masks, largest
from experiment.seeding import Stream
from experiment.statistics import Statistics


@dataclass(frozen=True)
class Selection:
    """What a method decided about the flat vector of weights (`statistics.flat`)."""

    kept: Tensor  # bool
    factors: Callable[[], Tensor] | None = None  # computes what each kept weight is multiplied with, if anything
    draws: numpy.ndarray | None = None  # of each unit (allocation.units), infinite where it was not sampled
    vectors: Masks = field(default_factory=dict)  # masks of biases and normalisations that go with removed filters


class Method(abc.ABC):
    """A pruning method. Its options are the keyword arguments of its `__init__`."""

    structure: Literal["weights", "filters"] = "weights"  # what it removes: single weights, or whole filters

    @abc.abstractmethod
    def prepare(self, statistics: Statistics, stream: Stream) -> Callable[[int], Selection]:
        """Compute all that does not depend on the budget; return the function from budget to selection.

        The budget is a number of weights; only `statistics.candidates` may be kept. The function must give
        the same answer whenever it is asked the same: every random number comes from `stream`.
        """


class ScoreMethod(Method):
    """A method that keeps the weights with the largest scores over the whole network."""

    @abc.abstractmethod
    def scores(self, statistics: Statistics) -> dict[str, Tensor]:
        """For each layer of `statistics.layers` a score of each weight; larger means more important."""

    def prepare(self, statistics: Statistics, stream: Stream) -> Callable[[int], Selection]:
        scores = statistics.flat.join(self.scores(statistics))
        return lambda budget: Selection(largest(scores, budget, statistics.candidates))
