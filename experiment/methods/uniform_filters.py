"""Random filters go: what any choice has to beat."""

import numpy

from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.pruning.analysis import Statistics
from experiment.pruning.filter_method import FilterMethod, Ranking, uniform_priority


@METHODS.register
class UniformFilters(FilterMethod):
    """Keep, in every layer the same ratio, uniformly random filters.

    No paper's method; as everywhere, filters that are added to one channel go together.
    """

    def rank(self, statistics: Statistics, alive: numpy.ndarray, stream: Stream) -> Ranking:
        channels = statistics.channels
        scores = stream.child("filters").permutation(channels.num_channels).numpy().astype(float)
        return Ranking(uniform_priority(channels, scores, alive))
