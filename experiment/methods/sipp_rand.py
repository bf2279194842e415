"""SiPPRand: draw the weights of each unit with probabilities proportional to sensitivities."""

from typing import Annotated

from pydantic import Field

from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.nets.checks import positive
from experiment.pruning.analysis import Analysis
from experiment.pruning.decision import Prepared
from experiment.pruning.error_sizes import DrawnByError
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

    With `error`, the relative error that no entry of the net's output may exceed, each unit draws
    as often as it takes to certify that (arXiv:1804.05345, with the largest sign complexity over S
    instead of a mean); the keep ratio follows from it.
    """

    sized_by_error = True

    def __init__(self, *, error: Annotated[float, Field(gt=0)] | None = None):
        self.error = None if error is None else positive("error", error)

    def prepare(self, analysis: Analysis, stream: Stream) -> Prepared:
        if self.error is not None:
            return DrawnByError(analysis, self.error, stream)
        return UnitSampling(analysis, sensitivity_units(analysis), stream)
