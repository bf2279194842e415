"""SiPPHybrid: for each unit, the better of sampling and keeping its most sensitive weights."""

from collections.abc import Callable

import numpy

from experiment.allocation.units import certified_random
from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.methods.sipp_rand import Sampler, sensitivity_units
from experiment.pruning.analysis import Statistics
from experiment.pruning.method import Method, Selection
from experiment.sensitivity.sample_size import C


@METHODS.register
class SiPPHybrid(Method):
    """Budgets as SiPPRand; each unit is sampled if its deterministic certificate is larger than its random one.

    The certificates are compared at the unit's own budget m: C times the sensitivity dropped when its m most
    sensitive weights are kept, against the Bernstein bound of the draws that m asks for (arXiv:1910.05422,
    Algorithm 3).

    Departures: those of SiPPRand; a budget m that is no whole number is rounded at random for a
    unit that keeps its most sensitive weights.
    """

    def prepare(self, statistics: Statistics, stream: Stream) -> Callable[[int], Selection]:
        units = sensitivity_units(statistics)
        sampler = Sampler(units, stream)
        # Budgets are not whole; rounding them at random keeps the sum, also where they are all below one half.
        rounding = stream.child("rounding").numpy_generator().random(units.number)

        def select(budget: int) -> Selection:
            kept = sampler.budgets(budget)
            draws = sampler.draws(kept)
            top = (units.rank < numpy.floor(kept + rounding)[units.unit]) & (units.importance > 0)
            dropped = units.sum(numpy.where(top, 0, units.importance))
            finite = numpy.isfinite(draws)
            random = certified_random(units.total, numpy.where(finite, draws, 0), statistics.delta)
            sampled = finite & (C * dropped > random)
            chosen = numpy.where(sampled[units.unit], sampler.found(draws), top)
            chosen = sampler.filled(chosen, budget, statistics.candidates)
            return sampler.selection(
                chosen, numpy.where(sampled, draws, numpy.inf), statistics.candidates.device
            )

        return select
