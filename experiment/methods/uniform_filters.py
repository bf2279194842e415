"""Random filters go: what any choice has to beat."""

import numpy

from experiment.methods.filter_method import FilterMethod, Ranking, uniform_priority
from experiment.registry import METHODS
from experiment.seeding import Stream
from experiment.statistics import Statistics


@METHODS.register
class UniformFilters(FilterMethod):
    """Keep, in every layer the same ratio, uniformly random filters.

    No paper's method; as everywhere, filters that are added to one channel go together.
    """

    def rank(self, statistics: Statistics, alive: numpy.ndarray, stream: Stream) -> Ranking:
        channels = statistics.channels
        scores = stream.child("filters").permutation(channels.number).numpy().astype(float)
        return Ranking(uniform_priority(channels, scores, alive))
