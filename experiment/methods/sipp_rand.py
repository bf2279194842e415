"""SiPPRand: draw the weights of each unit with probabilities proportional to sensitivities."""

from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.pruning.analysis import Analysis
from experiment.pruning.method import Method
from experiment.pruning.unit_sampling import UnitSampling
from experiment.pruning.weight_units import sensitivity_units


@METHODS.register
class SiPPRand(Method):
    """Importance sampling of weights, reweighted so that every unit stays unbiased.

    This is arXiv:1910.05422, Algorithm 2. The budget is split over units optimally for their error
    bounds; a unit draws with replacement until it is expected to hold its number of different
    weights.

    Departures: the split has a closed form in place of a solver, with the constants of the authors'
    code; one set of random numbers serves all budgets, so that the kept weights only grow with the
    budget; a unit whose draws would leave all its weights is left as it is; once all weights with
    any sensitivity are kept, the rest of the budget goes to others, by index.
    """

    def prepare(self, analysis: Analysis, stream: Stream) -> UnitSampling:
        return UnitSampling(analysis, sensitivity_units(analysis), stream)
