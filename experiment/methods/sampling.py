"""Sampling without data: the baselines of SiPPRand, which draw weights by their size or uniformly."""

import abc
from collections.abc import Callable

import numpy

from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.methods.sipp_rand import Sampler, units_of
from experiment.pruning.analysis import Statistics
from experiment.pruning.method import Method, Selection


class MagnitudeSampling(Method):
    """Draw weights of each unit with replacement by a function of their magnitude, reweighted to stay unbiased.

    Every unit is expected to keep the same share of its weights. The element-wise sampling of
    matrices that this stems from draws from a whole matrix at once and fixes the number of draws,
    not of weights.
    """

    @abc.abstractmethod
    def importance(
        self, magnitude: numpy.ndarray, mean: Callable[[numpy.ndarray], numpy.ndarray]
    ) -> numpy.ndarray:
        """What the probabilities of weights are proportional to; `mean` gives each weight its unit's mean."""

    def prepare(self, statistics: Statistics, stream: Stream) -> Callable[[int], Selection]:
        weights = statistics.flat.join(statistics.weights).float().abs()
        magnitude = units_of(statistics, weights)

        def mean(values: numpy.ndarray) -> numpy.ndarray:
            sums, counts = magnitude.sum(values), numpy.maximum(magnitude.capacity, 1)
            return (sums / counts)[magnitude.unit]

        importance = self.importance(magnitude.importance, mean)
        sampler = Sampler(magnitude.with_importance(importance), stream)

        def select(budget: int) -> Selection:
            capacity = sampler.units.capacity
            draws = sampler.draws(capacity * min(1.0, budget / max(1.0, capacity.sum())))
            kept = sampler.filled(sampler.found(draws), budget, statistics.candidates)
            return sampler.selection(kept, draws, statistics.candidates.device, certified=False)

        return select


@METHODS.register
class Uniform(MagnitudeSampling):
    """All weights of a unit are equally likely.

    Departures: drawn within units, not over the matrix.
    """

    def importance(self, magnitude: numpy.ndarray, mean: Callable) -> numpy.ndarray:
        return (magnitude > 0).astype(float)


@METHODS.register
class L1Sampling(MagnitudeSampling):
    """Probabilities proportional to |w| (Achlioptas, Karnin, Liberty 2013, for matrices).

    Departures: drawn within units, not over the matrix, without the paper's factors for its rows.
    """

    def importance(self, magnitude: numpy.ndarray, mean: Callable) -> numpy.ndarray:
        return magnitude


@METHODS.register
class L2Sampling(MagnitudeSampling):
    """Probabilities proportional to w squared (Drineas, Zouzias 2011, for matrices).

    Departures: drawn within units, not over the matrix; small entries may be drawn as well.
    """

    def importance(self, magnitude: numpy.ndarray, mean: Callable) -> numpy.ndarray:
        return magnitude**2


@METHODS.register
class L1L2Sampling(MagnitudeSampling):
    """Probabilities half way between those by |w| and those by w squared.

    Departures from Kundu, Drineas 2014: drawn within units, not over the matrix; always half way.
    """

    def importance(self, magnitude: numpy.ndarray, mean: Callable) -> numpy.ndarray:
        parts = [
            numpy.divide(values, mean(values), out=numpy.zeros_like(values), where=values > 0)
            for values in (magnitude, magnitude**2)
        ]
        return (parts[0] + parts[1]) / 2
