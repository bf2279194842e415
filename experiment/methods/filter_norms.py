"""Removing the filters of smallest norm."""

import numpy

from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.pruning.analysis import Analysis
from experiment.pruning.filter_method import FilterMethod, Ranking, uniform_priority


@METHODS.register
class FT(FilterMethod):
    """Keep the filters of largest l1 norm, the same ratio in every layer.

    Li et al. 2017, arXiv:1608.08710.

    Departures: the filters that are added to one channel count as one, with the sum of their norms;
    the paper chooses the ratio of each layer by hand and leaves sensitive layers whole; neurons of
    linear layers are pruned as well.
    """

    def rank(self, analysis: Analysis, alive: numpy.ndarray, stream: Stream) -> Ranking:
        return Ranking(uniform_priority(analysis.channels, norms(analysis, 1), alive))


@METHODS.register
class SoftNet(FilterMethod):
    """Keep the filters of largest l2 norm, the same ratio in every layer.

    He et al. 2018, arXiv:1808.06866.

    Departures: only the choice of the filters is the paper's, which sets them to zero after each
    epoch and lets them come back; here they are removed for good. The filters that are added to one
    channel count as one, with the sum of their squares; neurons of linear layers are pruned as
    well.
    """

    def rank(self, analysis: Analysis, alive: numpy.ndarray, stream: Stream) -> Ranking:
        return Ranking(uniform_priority(analysis.channels, norms(analysis, 2), alive))


def norms(analysis: Analysis, power: int) -> numpy.ndarray:
    """The sum of |w|^power over the weights that produce each channel [channels].

    These sums have the same order as the norms.
    """
    channels = analysis.channels
    result = numpy.zeros(channels.num_channels)
    for name, channel in channels.rows.items():
        by_row = analysis.weights[name].flatten(1).cpu().double().abs().pow(power).sum(1).numpy()
        numpy.add.at(result, channel[channel >= 0], by_row[channel >= 0])
    return result
