"""What methods that remove whole filters share: an order of all channels, of which a budget keeps the first."""

import abc
from collections.abc import Callable
from dataclasses import dataclass

import numpy
import torch

from experiment.channels.channels import Channels, WeightCount, spread
from experiment.core.seeding import Stream
from experiment.pruning.analysis import Statistics
from experiment.pruning.method import Method, Selection


@dataclass(frozen=True)
class Ranking:
    """Which channels are kept first, over the whole net."""

    priority: numpy.ndarray  # [channels]; larger is kept longer
    factors: Callable[[numpy.ndarray], numpy.ndarray] | None = None
    """From which channels are kept [channels] to what the weights that read each are multiplied with."""


class FilterMethod(Method):
    """A method that removes whole channels, with the filters that produce them and the weights that read them.

    One number, a ratio or a relative error, decides about the whole net; as it moves, channels go one after the other.
    That order is fixed before any budget is known: a budget of weights keeps the longest beginning of the order
    that has no more weights. The best channel of each group is never removed.
    """

    structure = "filters"

    @abc.abstractmethod
    def rank(self, statistics: Statistics, alive: numpy.ndarray, stream: Stream) -> Ranking:
        """The ranking of `statistics.channels`, of which only those `alive` [channels] count."""

    def prepare(self, statistics: Statistics, stream: Stream) -> Callable[[int], Selection]:
        channels = statistics.channels
        alive = channels.alive(
            {
                name: layer.oriented(statistics.masks[layer.parameter])
                for name, layer in statistics.layers.items()
            }
        )
        ranking = self.rank(statistics, alive, stream)
        order = keeping_order(channels, ranking.priority, alive)
        fewest = len(numpy.unique(channels.group[alive]))
        count = WeightCount(channels, statistics.flat.split(statistics.candidates))

        def select(budget: int) -> Selection:
            kept = longest_beginning(order, fewest, channels.num_channels, count, budget)
            weights = channels.weight_masks(statistics.weights, kept)
            factors = (
                None
                if ranking.factors is None
                else lambda: column_factors(statistics, ranking.factors(kept))
            )
            return Selection(
                statistics.flat.join(weights) & statistics.candidates,
                factors,
                vectors=channels.vector_masks(statistics.masks, kept),
            )

        return select


def keeping_order(
    channels: Channels, priority: numpy.ndarray, alive: numpy.ndarray
) -> numpy.ndarray:
    """The channels alive by falling priority, the best of each group before all others; ties go by number."""
    best = numpy.zeros(channels.num_channels, dtype=bool)
    masked = numpy.where(alive, priority, -numpy.inf)
    for part in channels.groups:
        best[part.start + numpy.argmax(masked[part])] = True
    order = numpy.lexsort((-masked, ~best))  # stable
    return order[alive[order]]


def longest_beginning(
    order: numpy.ndarray, fewest: int, number: int, count: WeightCount, budget: int
) -> numpy.ndarray:
    """Which channels are kept [number]: as many of the order as leave at most `budget` weights, at least `fewest`."""

    def beginning(length: int) -> numpy.ndarray:
        kept = numpy.zeros(number, dtype=bool)
        kept[order[:length]] = True
        return kept

    low, high = fewest, len(order)  # low fits, or is the least there is
    while low < high:
        middle = (low + high + 1) // 2
        if count(beginning(middle)) <= budget:
            low = middle
        else:
            high = middle - 1
    return beginning(low)


def column_factors(statistics: Statistics, factors: numpy.ndarray) -> torch.Tensor:
    """The factor of each weight of the flat vector from those of the channels [channels] that it reads."""
    by_layer = {}
    for name, shape in statistics.flat.shapes.items():
        columns = torch.from_numpy(
            spread(factors, statistics.channels.columns.get(name), shape[1], 1.0)
        ).float()
        by_layer[name] = columns.reshape(1, -1, *[1] * (len(shape) - 2)).expand(shape)
    return statistics.flat.join(by_layer).to(statistics.candidates.device)


def uniform_priority(
    channels: Channels, scores: numpy.ndarray, alive: numpy.ndarray
) -> numpy.ndarray:
    """The priorities with which one ratio of the channels of every group is kept, those with the largest scores.

    With the ratio k of a group's n original channels the first k n are kept: the one with r before it goes when the
    ratio falls to r / n.
    """
    priority = numpy.empty(channels.num_channels)
    for part, size in zip(channels.groups, channels.sizes):
        order = numpy.lexsort((-scores[part], ~alive[part]))  # stable: ties go by number
        rank = numpy.empty(size)
        rank[order] = numpy.arange(size)
        priority[part] = -rank / size
    return priority
