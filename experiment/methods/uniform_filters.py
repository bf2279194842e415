"""Random filter pruning, the baseline."""

import numpy

from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.pruning.analysis import Analysis
from experiment.pruning.filter_method import FilterMethod, Ranking, uniform_priority


@METHODS.register
class UniformFilters(FilterMethod):
    """Keep filters at random, the same ratio in every layer.

    No paper's method; as everywhere, filters that are added to one channel stay or go together.
    """

    def rank(self, analysis: Analysis, alive: numpy.ndarray, stream: Stream) -> Ranking:
        channels = analysis.channels
        scores = stream.child("filters").permutation(channels.num_channels).numpy().astype(float)
        return Ranking(uniform_priority(channels, scores, alive))
