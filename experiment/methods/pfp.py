"""Provable filter pruning: one relative error for the whole net says how many channels stay.

PFP, arXiv:1911.07412. A channel's probability is p_c = s_c / T, with its sensitivity s_c and the
group's sum T. The relative error e asks for N = ceil(3 (6 + 2 e) alpha / e^2) draws. A channel
stays until e exceeds its own critical error, which is computed here for all channels: the order of
these errors is the order in which channels are kept.
"""

import abc
from dataclasses import dataclass

import numpy

from experiment.allocation.draws_for_error import draws_for_error, error_for_draws
from experiment.allocation.sampling import draw_counts, draws_needed, first_appearances
from experiment.allocation.units import Units
from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.pruning.analysis import Analysis
from experiment.pruning.channel_units import channel_units
from experiment.pruning.filter_method import FilterMethod, Ranking

UNUSED_ROWS = 1
"""Of random numbers for each group; without them a seed would draw other channels than it did."""


class ProvableFilterPruning(FilterMethod):
    """The variants differ in the number of draws with which a channel is kept first.

    All of them depart from the paper: channels that layers add or share are one, its sensitivity
    the largest over all layers that read it, and alpha the largest of theirs; alpha's constants are
    those that the authors' code has for weights; the best channel of each group always stays;
    outputs of linear layers are channels too.
    """

    def rank(self, analysis: Analysis, alive: numpy.ndarray, stream: Stream) -> Ranking:
        units = channel_units(analysis, alive)
        return Ranking(critical_error(self.critical_draws(units, stream), units))

    @abc.abstractmethod
    def critical_draws(self, units: Units, stream: Stream) -> numpy.ndarray:
        """The smallest N with which each channel is kept [channels]; inf without sensitivity."""


@METHODS.register
class PFP(ProvableFilterPruning):
    """Keep the most sensitive channels, as many as N draws are expected to find; not reweighted.

    Departures: those of `ProvableFilterPruning`.
    """

    def critical_draws(self, units: Units, stream: Stream) -> numpy.ndarray:
        draws = numpy.full(len(units.rank), numpy.inf)
        unit = units.unit
        for rank in range(int(units.capacity.max(initial=0))):
            # The channel of this rank is kept if more than `rank` channels are expected.
            some = (units.rank == rank) & (units.importance > 0)
            needed = draws_needed(units, numpy.where(units.capacity > rank, rank * (1 + 1e-9), 0))
            draws[some] = numpy.maximum(needed[unit[some]], 1)
        return draws


@METHODS.register
class PFPRand(ProvableFilterPruning):
    """Keep the channels that N draws find.

    The weights that read a channel that was drawn `count` times are multiplied by count / (N p).

    Departures: those of `ProvableFilterPruning`; a group of which every channel is kept stays as it
    is; one set of random numbers serves all budgets, so that the kept channels only grow with them.
    """

    def rank(self, analysis: Analysis, alive: numpy.ndarray, stream: Stream) -> Ranking:
        units = channel_units(analysis, alive)
        critical_draws = self.critical_draws(units, stream)
        return SampledRanking(
            priority=critical_error(critical_draws, units),
            units=units,
            alive=alive,
            critical_draws=critical_draws,
            certain_draws=self.certain_draws(units),
            stream=stream,
        )

    def critical_draws(self, units: Units, stream: Stream) -> numpy.ndarray:
        return channel_appearances(units, stream)

    def certain_draws(self, units: Units) -> numpy.ndarray:
        """The smallest N with which a channel is kept without being drawn [channels]."""
        return numpy.full(len(units.importance), numpy.inf)


@METHODS.register
class PFPTop(PFPRand):
    """Keep the channels with p >= 1 / N as they are, and of the others those that N draws find.

    The drawn ones are reweighted.

    Departures: those of `PFPRand`; the draws are from all channels, with the probabilities p, not
    from the others alone, so that those kept at one N are kept at every larger one; the reweighted
    ones are unbiased all the same.
    """

    def critical_draws(self, units: Units, stream: Stream) -> numpy.ndarray:
        return numpy.minimum(super().critical_draws(units, stream), self.certain_draws(units))

    def certain_draws(self, units: Units) -> numpy.ndarray:
        """The smallest N with p >= 1 / N."""
        probability = units.probability
        never = numpy.full(len(probability), numpy.inf)
        inverse = numpy.divide(1, probability, out=never, where=probability > 0)
        return numpy.ceil(inverse * (1 - 1e-12))


@dataclass(frozen=True)
class SampledRanking(Ranking):
    """A ranking of channels that are drawn, and reweighted by how often they are."""

    units: Units
    alive: numpy.ndarray  # [channels]
    critical_draws: numpy.ndarray  # [channels]: the smallest N with which each is kept
    certain_draws: numpy.ndarray  # [channels]: the smallest N with which each needs no draw
    stream: Stream

    def factors(self, kept: numpy.ndarray) -> numpy.ndarray:
        draws = self.draws(kept)
        finite = numpy.where(numpy.isfinite(draws), draws, 0)
        first = channel_appearances(self.units, self.stream)
        random = self.stream.child("counts").numpy_generator()
        counts = draw_counts(self.units, first, finite, random)
        of_channel = finite[self.units.unit]
        expected = of_channel * self.units.probability
        sampled = kept & (expected > 0) & (of_channel < self.certain_draws)
        return numpy.divide(counts, expected, out=numpy.ones(len(counts)), where=sampled)

    def draws(self, kept: numpy.ndarray) -> numpy.ndarray:
        """N of each group [groups] if exactly these channels are kept; infinite for whole groups.

        It follows from the critical error of the last channel kept, the same for the whole net, but
        is at least what the kept channels of the group need, and too few to find another.
        """
        wanted = self._wanted_draws(self.priority[kept].min(initial=numpy.inf))
        draws = numpy.full(self.units.num_units, numpy.inf)
        unit = self.units.unit
        for group in range(self.units.num_units):
            own = unit == group
            removed = own & self.alive & ~kept
            if removed.any():
                least = self.critical_draws[own & kept].max(initial=1)
                most = self.critical_draws[removed].min() - 1
                draws[group] = min(max(wanted[group], least), most)
        return draws

    def _wanted_draws(self, error: float) -> numpy.ndarray:
        """N of each group [groups] for a relative error, which may be 0 or infinite."""
        if error <= 0:
            return numpy.full(self.units.num_units, numpy.inf)
        if numpy.isinf(error):
            return numpy.ones(self.units.num_units)
        return draws_for_error(numpy.array(error), self.units.alpha)


def channel_appearances(units: Units, stream: Stream) -> numpy.ndarray:
    """The draw, counted from 1, in which each channel appears first [channels]."""
    random = stream.child("appearances").numpy_generator()
    return first_appearances(units, random, unused_rows=UNUSED_ROWS)


def critical_error(critical_draws: numpy.ndarray, units: Units) -> numpy.ndarray:
    """The relative error [channels] above which N falls below each channel's critical draws."""
    return error_for_draws(critical_draws - 1, units.alpha[units.unit])
