"""Filters of the smallest norm go."""

import numpy

from experiment.channels.channels import Channels
from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.pruning.analysis import Statistics
from experiment.pruning.filter_method import FilterMethod, Ranking, uniform_priority


@METHODS.register
class FT(FilterMethod):
    """Keep, in every layer the same ratio, the filters of largest l1 norm (Li et al. 2017, arXiv:1608.08710).

    Departures: the filters that are added to one channel count as one, with the sum of their norms;
    the paper chooses the ratio of each layer by hand and leaves sensitive layers whole; neurons of
    linear layers go as well.
    """

    def rank(self, statistics: Statistics, alive: numpy.ndarray, stream: Stream) -> Ranking:
        return Ranking(uniform_priority(statistics.channels, norms(statistics, 1), alive))


@METHODS.register
class SoftNet(FilterMethod):
    """Keep, in every layer the same ratio, the filters of largest l2 norm (He et al. 2018, arXiv:1808.06866).

    Departures: only the choice of the filters is the paper's, which sets them to zero after each
    epoch and lets them come back; here they go for good. The filters that are added to one channel
    count as one, with the sum of their squares; neurons of linear layers go as well.
    """

    def rank(self, statistics: Statistics, alive: numpy.ndarray, stream: Stream) -> Ranking:
        return Ranking(uniform_priority(statistics.channels, norms(statistics, 2), alive))


def norms(statistics: Statistics, power: int) -> numpy.ndarray:
    """The sum of |w|^power [channels] over the weights that produce each channel: ordered as their norms."""
    channels: Channels = statistics.channels
    result = numpy.zeros(channels.num_channels)
    for name, channel in channels.rows.items():
        by_row = statistics.weights[name].flatten(1).cpu().double().abs().pow(power).sum(1).numpy()
        numpy.add.at(result, channel[channel >= 0], by_row[channel >= 0])
    return result
