"""ThiNet: remove the channels that the next layer's outputs need least."""

from typing import Annotated

import numpy
from pydantic import Field

from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.pruning.analysis import Analysis
from experiment.pruning.filter_method import FilterMethod, Ranking, uniform_priority
from experiment.sensitivity.reconstruction import gram_matrices, greedy_removal


@METHODS.register
class ThiNet(FilterMethod):
    """Keep channels chosen greedily for a small reconstruction error on S.

    The ratio is the same in every layer. Luo et al. 2017, arXiv:1707.06342, Section 3.2.
    `points_per_sample`: how many positions of each sample are looked at in a layer, with all of
    their filters.

    Departures: kept channels are not rescaled by least squares; all layers are pruned at once, from
    the activations of the unpruned net, while the paper fine-tunes after each; the error is that of
    all filters at a position, not of one drawn at random; where several layers read a channel,
    their relative errors are added, and channels that are added to each other go together, while
    the paper leaves them.
    """

    def __init__(self, *, points_per_sample: Annotated[int, Field(ge=1, le=1_000_000)] = 10):
        self.points_per_sample = points_per_sample

    def rank(self, analysis: Analysis, alive: numpy.ndarray, stream: Stream) -> Ranking:
        channels = analysis.channels
        scores = numpy.empty(channels.num_channels)
        grams = gram_matrices(
            analysis.net,
            analysis.layers,
            analysis.batches,
            channels,
            self.points_per_sample,
            stream.child("points"),
        )
        for group, gram in zip(channels.groups, grams):
            order = group.start + greedy_removal(gram)
            scores[order] = numpy.arange(len(gram))  # what is removed late is important
        return Ranking(uniform_priority(channels, scores, alive))
