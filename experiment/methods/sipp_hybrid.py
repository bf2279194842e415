"""SiPPHybrid: for each unit, the better of sampling and keeping its most sensitive weights."""

import numpy

from experiment.allocation.bernstein import bernstein_error
from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.pruning.analysis import Analysis
from experiment.pruning.method import Method
from experiment.pruning.unit_sampling import SampledChoice, UnitSampling
from experiment.pruning.weight_units import sensitivity_units
from experiment.sensitivity.constants import C


@METHODS.register
class SiPPHybrid(Method):
    """Sample a unit if its deterministic certificate is larger than its random one.

    Budgets of units are those of SiPPRand. The certificates are compared at the unit's own budget
    m: C times the sensitivity dropped when its m most sensitive weights are kept, against the
    Bernstein bound of the draws that m asks for (arXiv:1910.05422, Algorithm 3).

    Departures: those of SiPPRand; a budget m that is not a whole number is rounded at random for a
    unit that keeps its most sensitive weights.
    """

    def prepare(self, analysis: Analysis, stream: Stream) -> "HybridSampling":
        return HybridSampling(analysis, stream)


class HybridSampling(UnitSampling):
    """Some units are sampled; the others keep their most sensitive weights as they are."""

    def __init__(self, analysis: Analysis, stream: Stream):
        super().__init__(analysis, sensitivity_units(analysis), stream)
        self.delta = analysis.delta
        # Random rounding keeps the sum of the budgets, also where all of them are below one half.
        self.rounding = stream.child("rounding").numpy_generator().random(self.units.num_units)

    def choose(self, budget: int) -> SampledChoice:
        budgets = self.budgets(budget)
        draws = self.sampler.draws(budgets)
        top = self._most_sensitive(budgets)
        sampled = self._better_sampled(draws, top)
        is_sampled = self.units.by_item(lambda table: sampled[table.units][table.row])
        kept = numpy.where(is_sampled, self.sampler.found(draws), top)
        return self.filled(kept, numpy.where(sampled, draws, numpy.inf), budget)

    def _most_sensitive(self, budgets: numpy.ndarray) -> numpy.ndarray:
        """The most sensitive weights [weights] of each unit, as many as its rounded budget."""
        whole = numpy.floor(budgets + self.rounding)
        rank = self.units.rank
        top = self.units.by_item(lambda table: rank[table.items] < whole[table.units][table.row])
        return top & (self.units.importance > 0)

    def _better_sampled(self, draws: numpy.ndarray, top: numpy.ndarray) -> numpy.ndarray:
        """The units [units] with a smaller certificate when sampled than with `top` [weights]."""
        dropped = self.units.sum(numpy.where(top, 0, self.units.importance))
        finite = numpy.isfinite(draws)
        random = bernstein_error(self.units.total, numpy.where(finite, draws, 0), self.delta)
        return finite & (C * dropped > random)
