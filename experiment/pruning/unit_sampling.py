"""Sampling the weights of units: what the methods that draw weights with replacement share."""

from dataclasses import dataclass
from functools import cached_property

import numpy
import torch
from torch import Tensor

from experiment.allocation.optimal import allocate
from experiment.allocation.sampling import (
    Appearances,
    appearances_by_block,
    counts_by_block,
    draws_needed,
)
from experiment.allocation.units import Units
from experiment.core.memory import return_free_memory
from experiment.core.seeding import Stream
from experiment.pruning.analysis import Analysis
from experiment.pruning.decision import Choice, Decision, Prepared

MOST_DRAWS = 2.0**53  # the largest count of draws that double precision holds exactly


@dataclass(frozen=True)
class Sampler:
    """Draws from units with one stream of random numbers."""

    units: Units
    stream: Stream

    @cached_property
    def first(self) -> Appearances:
        """The draw in which each weight appears first [weights]."""
        random = self.stream.child("appearances").numpy_generator()
        num_items = len(self.units.importance)
        first = Appearances.of(appearances_by_block(self.units, random), num_items)
        return_free_memory(num_items)
        return first

    def draws(self, budgets: numpy.ndarray) -> numpy.ndarray:
        """N of each unit, for the number of different weights that it is expected to keep [units].

        Infinite for units that stay as they are: where the draws would leave, rounded, all of the
        unit's weights, or would be more than double precision can count.
        """
        whole = (budgets > self.units.capacity - 0.5) & (budgets > 0)
        draws = draws_needed(self.units, numpy.where(whole, 0, budgets))
        return numpy.where(whole | (draws > MOST_DRAWS), numpy.inf, draws)

    def found(self, draws: numpy.ndarray) -> numpy.ndarray:
        """Which weights [weights] the draws [units] find."""
        first = self.first
        early = self.units.by_item(
            lambda table: first[table.items] <= draws[table.units][table.row]
        )
        return early & (self.units.importance > 0)

    def factors(self, draws: numpy.ndarray) -> numpy.ndarray:
        """count / (N p) [weights], which makes drawn weights unbiased; 1 in units that stay.

        float32, as the weights are.
        """
        finite = numpy.where(numpy.isfinite(draws), draws, 0)
        random = self.stream.child("counts").numpy_generator()
        units = self.units
        factors = numpy.ones(len(units.importance), dtype=numpy.float32)
        for table, counts in counts_by_block(units, self.first, finite, random):
            expected = finite[table.units][table.row] * units.probability_in(table)
            of_block = factors[table.items]  # a view
            numpy.divide(counts, expected, out=of_block, where=expected > 0, casting="same_kind")
        return factors


@dataclass(frozen=True, kw_only=True)
class SampledChoice(Choice):
    """What stays, and the draws [units] that found it; infinite for units that stay as they are."""

    draws: numpy.ndarray


class UnitSampling(Prepared[SampledChoice]):
    """Each unit draws until it is expected to hold its optimal number of different weights.

    The budgets of units minimise the sum of their error bounds (arXiv:1910.05422, Section 5).
    """

    certified = True  # whether the bounds hold: only if importances are sensitivities

    def __init__(self, analysis: Analysis, units: Units, stream: Stream):
        self.units = units
        self.sampler = Sampler(units, stream)
        self.candidates = analysis.candidates

    def budgets(self, budget: int) -> numpy.ndarray:
        """How many different weights each unit is expected to keep [units]; not whole numbers."""
        return allocate(
            torch.from_numpy(self.units.allocation_scale),
            torch.from_numpy(self.units.error_weight),
            torch.from_numpy(self.units.capacity),
            budget,
        ).numpy()

    def choose(self, budget: int) -> SampledChoice:
        draws = self.sampler.draws(self.budgets(budget))
        return self.filled(self.sampler.found(draws), draws, budget)

    def filled(self, kept: numpy.ndarray, draws: numpy.ndarray, budget: int) -> SampledChoice:
        """The kept weights; if a budget is more than all weights of importance, others by index."""
        spare = budget - int(self.units.capacity.sum())
        if spare > 0:
            others = self.candidates.cpu().numpy() & (self.units.importance <= 0)
            kept = kept.copy()
            kept[others.nonzero()[0][:spare]] = True
        return SampledChoice(kept=torch.from_numpy(kept).to(self.candidates.device), draws=draws)

    def decide(self, choice: SampledChoice) -> Decision:
        factors = self._on_device(self.sampler.factors(choice.draws))
        draws = choice.draws if self.certified else None
        return Decision(kept=choice.kept, factors=factors, draws=draws)

    def priority(self) -> Tensor:
        return self._on_device(self.units.importance)

    def _on_device(self, values: numpy.ndarray) -> Tensor:
        return torch.from_numpy(values).float().to(self.candidates.device)
