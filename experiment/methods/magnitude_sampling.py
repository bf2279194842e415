"""Sampling weights by their magnitude, or uniformly: baselines of SiPPRand that need no data."""

import abc

import numpy

from experiment.allocation.units import Units
from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.pruning.analysis import Analysis
from experiment.pruning.method import Method
from experiment.pruning.unit_sampling import UnitSampling
from experiment.pruning.weight_units import weight_units


class MagnitudeSampling(Method):
    """Draw the weights of each unit with replacement by a function of their magnitude.

    Drawn weights are reweighted so that every unit stays unbiased. Every unit is expected to keep
    the same share of its weights. The element-wise sampling of matrices that this stems from draws
    from a whole matrix at once and fixes the number of draws, not of weights.
    """

    @abc.abstractmethod
    def importance(self, units: Units) -> numpy.ndarray:
        """What the probabilities of weights [weights] are proportional to.

        The importances of `units` are the magnitudes of the weights.
        """

    def prepare(self, analysis: Analysis, stream: Stream) -> UnitSampling:
        magnitudes = analysis.flat.join(analysis.weights).float().abs()
        units = weight_units(analysis, magnitudes)
        return ProportionalSampling(analysis, units.with_importance(self.importance(units)), stream)


class ProportionalSampling(UnitSampling):
    """Every unit is expected to keep the same share of its weights."""

    certified = False

    def budgets(self, budget: int) -> numpy.ndarray:
        capacity = self.units.capacity
        return capacity * min(1.0, budget / max(1.0, capacity.sum()))


@METHODS.register
class Uniform(MagnitudeSampling):
    """Draw all weights of a unit with the same probability.

    Departures: drawn within units, not over the matrix.
    """

    def importance(self, units: Units) -> numpy.ndarray:
        return (units.importance > 0).astype(numpy.float32)


@METHODS.register
class L1Sampling(MagnitudeSampling):
    """Probabilities proportional to |w| (Achlioptas, Karnin, Liberty 2013, for matrices).

    Departures: drawn within units, not over the matrix, without the paper's factors for its rows.
    """

    def importance(self, units: Units) -> numpy.ndarray:
        return units.importance


@METHODS.register
class L2Sampling(MagnitudeSampling):
    """Probabilities proportional to w squared (Drineas, Zouzias 2011, for matrices).

    Departures: drawn within units, not over the matrix; small entries may be drawn as well.
    """

    def importance(self, units: Units) -> numpy.ndarray:
        return units.importance.astype(float) ** 2


@METHODS.register
class L1L2Sampling(MagnitudeSampling):
    """Probabilities half way between those by |w| and those by w squared.

    Departures from Kundu, Drineas 2014: drawn within units, not over the matrix; always half way.
    """

    def importance(self, units: Units) -> numpy.ndarray:
        magnitude = units.importance.astype(float)
        by_size = _over_mean(magnitude, units)
        by_square = _over_mean(magnitude**2, units)
        return (by_size + by_square) / 2


def _over_mean(values: numpy.ndarray, units: Units) -> numpy.ndarray:
    """Positive values of weights [weights] over their mean in the unit; 0 for the others."""
    mean = (units.sum(values) / numpy.maximum(units.capacity, 1))[units.unit]
    return numpy.divide(values, mean, out=numpy.zeros_like(values), where=values > 0)
