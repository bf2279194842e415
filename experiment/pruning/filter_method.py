"""What the methods that remove whole filters share: an order of all channels, kept from the top."""

import abc
from dataclasses import dataclass

import numpy
import torch

from experiment.channels.channels import Channels, WeightCount, spread
from experiment.core.seeding import Stream
from experiment.pruning.analysis import Analysis
from experiment.pruning.decision import Choice, Decision, Prepared
from experiment.pruning.method import Method


@dataclass(frozen=True)
class Ranking:
    """Which channels are kept first, over the whole net."""

    priority: numpy.ndarray  # [channels]; larger is kept longer

    def factors(self, kept: numpy.ndarray) -> numpy.ndarray | None:
        """What the weights that read each channel are multiplied with [channels], if anything.

        `kept` [channels] says which channels stay.
        """
        return None


class FilterMethod(Method):
    """A method that removes channels, with the filters that make and the weights that read them.

    One number for the whole net, a ratio or a relative error, says what is kept; as it moves,
    channels go one after the other. That order is fixed before any budget is known: a budget of
    weights keeps as many channels from the top of the order as fit. The best channel of each group
    is never removed. With `Analysis.round_channels`, blocks of so many channels take the place of
    single ones.
    """

    granularity = "filters"

    @abc.abstractmethod
    def rank(self, analysis: Analysis, alive: numpy.ndarray, stream: Stream) -> Ranking:
        """The ranking of `analysis.channels`, of which only those `alive` [channels] count."""

    def prepare(self, analysis: Analysis, stream: Stream) -> Prepared:
        alive = analysis.channels.alive(analysis.flat.split(analysis.candidates))
        return RankedChannels(analysis, self.rank(analysis, alive, stream), alive)


@dataclass(frozen=True, kw_only=True)
class ChannelChoice(Choice):
    """What stays, and the channels [channels] that this is."""

    channels: numpy.ndarray


class RankedChannels(Prepared[ChannelChoice]):
    """Keeps as many channels from the top of a ranking as a budget of weights permits."""

    nested = True

    def __init__(self, analysis: Analysis, ranking: Ranking, alive: numpy.ndarray):
        channels = analysis.channels
        self.analysis = analysis
        self.ranking = ranking
        self.blocks = keeping_order(channels, ranking.priority, alive, analysis.round_channels)
        self.fewest = len(numpy.unique(channels.group[alive]))  # the best block of each group
        self.count = WeightCount(channels, analysis.flat.split(analysis.candidates))
        self.num_weights = int(analysis.candidates.sum())

    def choose(self, budget: int) -> ChannelChoice:
        analysis = self.analysis
        kept = self._top(self._length(budget))
        weights = analysis.channels.weight_masks(analysis.weights, kept)
        return ChannelChoice(
            kept=analysis.flat.join(weights) & analysis.candidates,
            vectors=analysis.channels.vector_masks(analysis.masks, kept),
            channels=kept,
        )

    def alike(self, budget: int) -> range:
        """The budgets that permit as many blocks as this one."""
        length = self._length(budget)
        first = self.count(self._top(length)) if length > self.fewest else 0
        if length == len(self.blocks):
            return range(first, self.num_weights + 1)
        return range(first, self.count(self._top(length + 1)))

    def decide(self, choice: ChannelChoice) -> Decision:
        factors = self.ranking.factors(choice.channels)
        return Decision(
            kept=choice.kept,
            vectors=choice.vectors,
            factors=None if factors is None else column_factors(self.analysis, factors),
        )

    def _length(self, budget: int) -> int:
        """How many blocks leave at most `budget` weights; never fewer than the fewest."""
        low = self.fewest  # fits, or is the least there is
        high = len(self.blocks)
        while low < high:
            middle = (low + high + 1) // 2
            if self.count(self._top(middle)) <= budget:
                low = middle
            else:
                high = middle - 1
        return low

    def _top(self, length: int) -> numpy.ndarray:
        """The channels of the first blocks, as a mask [channels]."""
        kept = numpy.zeros(len(self.ranking.priority), dtype=bool)
        if length:
            kept[numpy.concatenate(self.blocks[:length])] = True
        return kept


def keeping_order(
    channels: Channels, priority: numpy.ndarray, alive: numpy.ndarray, block: int = 1
) -> list[numpy.ndarray]:
    """The channels alive in blocks, by falling priority, the best block of each group first.

    A block has `block` channels of a group, the last one perhaps fewer, in the order of their
    priorities; its own is that of the channel in its middle, so that numbers are rounded to the
    nearest multiple. Ties go by number.
    """
    blocks: list[numpy.ndarray] = []
    is_best: list[bool] = []
    for group in channels.groups:
        members = group.start + numpy.flatnonzero(alive[group])
        members = members[numpy.argsort(-priority[members], kind="stable")]
        of_group = [members[start : start + block] for start in range(0, len(members), block)]
        blocks += of_group
        is_best += [index == 0 for index in range(len(of_group))]
    if not blocks:
        return []
    of_block = numpy.array([priority[members[len(members) // 2]] for members in blocks])
    first = numpy.array([members[0] for members in blocks])
    order = numpy.lexsort((first, -of_block, ~numpy.array(is_best)))
    return [blocks[index] for index in order]


def column_factors(analysis: Analysis, factors: numpy.ndarray) -> torch.Tensor:
    """The factor of each weight of the flat vector, from those of the channels that they read."""
    by_layer = {}
    for name, shape in analysis.flat.shapes.items():
        channel = analysis.channels.columns.get(name)
        columns = torch.from_numpy(spread(factors, channel, shape[1], 1.0)).float()
        by_layer[name] = columns.reshape(1, -1, *[1] * (len(shape) - 2)).expand(shape)
    return analysis.flat.join(by_layer).to(analysis.candidates.device)


def uniform_priority(
    channels: Channels, scores: numpy.ndarray, alive: numpy.ndarray
) -> numpy.ndarray:
    """The priorities with which all groups keep the same ratio: their channels of largest score.

    With the ratio k, a group of n original channels keeps the first k n: the channel with r before
    it goes when the ratio falls to r / n.
    """
    priority = numpy.empty(len(scores))
    for group, size in zip(channels.groups, channels.sizes):
        order = numpy.lexsort((-scores[group], ~alive[group]))  # stable: ties go by number
        rank = numpy.empty(size)
        rank[order] = numpy.arange(size)
        priority[group] = -rank / size
    return priority
