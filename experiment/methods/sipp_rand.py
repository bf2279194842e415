"""SiPPRand: draw the weights of each unit with probabilities proportional to their sensitivities."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy
import torch
from torch import Tensor

from experiment.allocation.optimal import allocate
from experiment.allocation.sampling import counts, draws_needed, first_appearances
from experiment.allocation.units import Layer, Units
from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.pruning.analysis import Statistics
from experiment.pruning.method import Method, Selection

MOST_DRAWS = 2.0**53


@dataclass(frozen=True)
class Sampler:
    """Units, their first appearances, and the budgets and draws that follow from a budget of weights."""

    units: Units
    stream: Stream

    @cached_property
    def first(self) -> numpy.ndarray:
        return first_appearances(self.units, self.stream.child("appearances").numpy_generator())

    def budgets(self, budget: int) -> numpy.ndarray:
        """m of each unit: the optimal expected number of weights that it keeps."""
        units = self.units
        arrays = (units.allocation_scale, units.weight_of_error, units.capacity)
        return allocate(*map(torch.from_numpy, arrays), budget).numpy()

    def draws(self, kept: numpy.ndarray) -> numpy.ndarray:
        """N of each unit; infinite where draws would leave, rounded, all of its weights: it stays as it is.

        So does a unit that would need more draws than a whole number in double precision can count.
        """
        whole = (kept > self.units.capacity - 0.5) & (kept > 0)
        draws = draws_needed(self.units, numpy.where(whole, 0, kept))
        return numpy.where(whole | (draws > MOST_DRAWS), numpy.inf, draws)

    def found(self, draws: numpy.ndarray) -> numpy.ndarray:
        """Which weights the draws find."""
        return (self.first <= draws[self.units.unit]) & (self.units.importance > 0)

    def filled(self, kept: numpy.ndarray, budget: int, candidates: Tensor) -> numpy.ndarray:
        """The kept weights, and by index some without importance, if all with importance do not use up the budget."""
        spare = budget - int(self.units.capacity.sum())
        if spare <= 0:
            return kept
        rest = (candidates.cpu().numpy() & (self.units.importance <= 0)).nonzero()[0]
        kept = kept.copy()
        kept[rest[:spare]] = True
        return kept

    def factors(self, draws: numpy.ndarray) -> numpy.ndarray:
        """count / (N p), which makes a drawn weight unbiased; 1 for weights of units that stay as they are."""
        finite = numpy.where(numpy.isfinite(draws), draws, 0)
        drawn = counts(
            self.units, self.first, finite, self.stream.child("counts").numpy_generator()
        )
        expected = finite[self.units.unit] * self.units.probability
        return numpy.divide(drawn, expected, out=numpy.ones(len(drawn)), where=expected > 0)

    def selection(
        self,
        kept: numpy.ndarray,
        draws: numpy.ndarray,
        device: torch.device,
        *,
        certified: bool = True,
    ) -> Selection:
        """These weights, those of units with finite draws reweighted."""
        return Selection(
            torch.from_numpy(kept).to(device),
            lambda: torch.from_numpy(self.factors(draws)).float().to(device),
            draws if certified else None,
            lambda: torch.from_numpy(self.units.importance).float().to(device),
        )


@METHODS.register
class SiPPRand(Method):
    """Importance sampling of weights, reweighted so that every unit stays unbiased (arXiv:1910.05422, Algorithm 2).

    The budget is split over units optimally for their error bounds; a unit draws with replacement until it is
    expected to hold its number of different weights.

    Departures: the split has a closed form in place of a solver, with the constants of the authors'
    code; one set of random numbers serves all budgets, so that kept weights only grow with them; a
    unit whose draws would leave all its weights is left as it is; what a budget has left over when
    all weights with any sensitivity are kept goes to others, by index.
    """

    def prepare(self, statistics: Statistics, stream: Stream) -> Callable[[int], Selection]:
        sampler = Sampler(sensitivity_units(statistics), stream)

        def select(budget: int) -> Selection:
            draws = sampler.draws(sampler.budgets(budget))
            kept = sampler.filled(sampler.found(draws), budget, statistics.candidates)
            return sampler.selection(kept, draws, statistics.candidates.device)

        return select


def sensitivity_units(statistics: Statistics) -> Units:
    """The units of a net with the max-reduced sensitivities of its weights."""
    return units_of(statistics, statistics.flat.join(statistics.sensitivities("max")))


def units_of(statistics: Statistics, importance: Tensor) -> Units:
    """The units of a net with an importance of each weight of the flat vector; what was pruned has none."""
    flat = statistics.flat
    importance = torch.where(statistics.candidates, importance, 0).cpu().double().numpy()
    return Units(
        importance,
        (flat.weights(statistics.net) < 0).cpu().numpy(),
        [
            Layer(
                layer.shape[0], layer.shape[1:].numel(), layer.num_patches, layer.shape[2:].numel()
            )
            for layer in statistics.layers.values()
        ],
        statistics.delta,
    )
