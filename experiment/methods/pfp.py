"""Provable filter pruning: as many channels in each layer as one relative error for the whole net asks for.

PFP, arXiv:1911.07412. A channel's probability is p_c = s_c / T, with its sensitivity s_c and the group's sum T. The
relative error e asks for N = ceil(3 (6 + 2 e) alpha / e^2) draws, so every channel stays until e is beyond an
error of its own, which is computed here for all of them: the budget is met by going along these errors.
"""

import abc
import math

import numpy

from experiment.allocation.sampling import counts, draws_needed, first_appearances
from experiment.allocation.units import Layer, Units
from experiment.channels.channels import Channels
from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.pruning.analysis import Statistics
from experiment.pruning.filter_method import FilterMethod, Ranking
from experiment.sensitivity.channels import channel_sensitivities


class ProvableFilterPruning(FilterMethod):
    """The variants differ in the number of draws with which a channel first is kept.

    Where all depart from the paper: channels that layers add or share are one, its sensitivity the
    largest over all layers that read it, and alpha the largest of theirs; alpha's constants are
    those that the authors' code has for weights; the best channel of each group always stays;
    outputs of linear layers are channels too.
    """

    def rank(self, statistics: Statistics, alive: numpy.ndarray, stream: Stream) -> Ranking:
        units = channel_units(statistics, alive)
        return Ranking(
            critical_error(self.critical_draws(units, stream) - 1, alpha(units)[units.unit // 2])
        )

    @abc.abstractmethod
    def critical_draws(self, units: Units, stream: Stream) -> numpy.ndarray:
        """The smallest N [channels] with which each channel is kept; infinite for those without sensitivity."""


@METHODS.register
class PFP(ProvableFilterPruning):
    """Keep the most sensitive channels, as many as N draws are expected to find; not reweighted.

    Departures: those of `ProvableFilterPruning`.
    """

    def critical_draws(self, units: Units, stream: Stream) -> numpy.ndarray:
        draws = numpy.full(len(units.rank), numpy.inf)
        for rank in range(
            int(units.capacity.max(initial=0))
        ):  # kept if more than `rank` are expected
            some = (units.rank == rank) & (units.importance > 0)
            needed = draws_needed(units, numpy.where(units.capacity > rank, rank * (1 + 1e-9), 0))
            draws[some] = numpy.maximum(needed[units.unit[some]], 1)
        return draws


@METHODS.register
class PFPRand(ProvableFilterPruning):
    """Keep the channels that N draws find; what reads one that was drawn `count` times is multiplied by count / (N p).

    Departures: those of `ProvableFilterPruning`; a group of which every channel is kept stays as it
    is; one set of random numbers serves all budgets, so that kept channels only grow with them.
    """

    def critical_draws(self, units: Units, stream: Stream) -> numpy.ndarray:
        return first_appearances(units, stream.child("appearances").numpy_generator())

    def certain(self, units: Units, draws: numpy.ndarray) -> numpy.ndarray:
        """Which channels are kept without a draw, and so not reweighted, with N draws [channels]."""
        return numpy.zeros(len(draws), dtype=bool)

    def rank(self, statistics: Statistics, alive: numpy.ndarray, stream: Stream) -> Ranking:
        units = channel_units(statistics, alive)
        first = first_appearances(units, stream.child("appearances").numpy_generator())
        critical = self.critical_draws(units, stream)
        scale = alpha(units)[units.unit // 2]
        priority = critical_error(critical - 1, scale)

        def factors(kept: numpy.ndarray) -> numpy.ndarray:
            draws = draws_of(kept, units, critical, priority, alive)
            finite = numpy.where(numpy.isfinite(draws), draws, 0)
            drawn = counts(units, first, finite, stream.child("counts").numpy_generator())
            expected = finite[units.unit] * units.probability
            sampled = kept & (expected > 0) & ~self.certain(units, finite[units.unit])
            return numpy.divide(drawn, expected, out=numpy.ones(len(drawn)), where=sampled)

        return Ranking(priority, factors)


@METHODS.register
class PFPTop(PFPRand):
    """Keep the channels with p >= 1 / N as they are, and of the others those that N draws find, reweighted.

    Departures: those of `PFPRand`; the draws are from all channels, with the probabilities p, not
    from the others alone, so that those kept at one N are kept at every larger one; the reweighted
    ones are unbiased all the same.
    """

    def critical_draws(self, units: Units, stream: Stream) -> numpy.ndarray:
        return numpy.minimum(super().critical_draws(units, stream), _draws_to_be_certain(units))

    def certain(self, units: Units, draws: numpy.ndarray) -> numpy.ndarray:
        return draws >= _draws_to_be_certain(units)


def _draws_to_be_certain(units: Units) -> numpy.ndarray:
    """The smallest N [channels] with p >= 1 / N."""
    inverse = numpy.divide(
        1,
        units.probability,
        out=numpy.full(len(units.probability), numpy.inf),
        where=units.probability > 0,
    )
    return numpy.ceil(inverse * (1 - 1e-12))


def channel_units(statistics: Statistics, alive: numpy.ndarray) -> Units:
    """The groups of channels as units: group g is unit 2 g; there is no negative part."""
    channels = statistics.channels
    importance = channel_sensitivities(channels, statistics.sensitivities("max"))
    return Units(
        numpy.where(alive, importance, 0),
        numpy.zeros(channels.num_channels, dtype=bool),
        _groups(channels, statistics),
        statistics.delta,
    )


def _groups(channels: Channels, statistics: Statistics) -> list[Layer]:
    """What enters alpha: of the layers that read a group, the largest number of patches and of kernel positions."""
    patches, kernel_size = (
        numpy.ones(len(channels.sizes), dtype=int),
        numpy.ones(len(channels.sizes), dtype=int),
    )
    for name, channel in channels.columns.items():
        groups = numpy.unique(channels.group[channel[channel >= 0]])
        if name in statistics.layers:
            layer = statistics.layers[name]
            patches[groups] = numpy.maximum(patches[groups], layer.num_patches)
            kernel_size[groups] = numpy.maximum(kernel_size[groups], layer.shape[2:].numel())
    return [
        Layer(1, int(size), int(p), int(k))
        for size, p, k in zip(channels.sizes, patches, kernel_size)
    ]


def alpha(units: Units) -> numpy.ndarray:
    """alpha = 2 C T ln(8 (P + 1) kappa / delta) of each group, as for weights (after the paper's code)."""
    return 3 * units.allocation_scale[::2]


def draws(error: numpy.ndarray, scale: numpy.ndarray) -> numpy.ndarray:
    """N = ceil(3 (6 + 2 e) alpha / e^2) for `error` = e and `scale` = alpha."""
    return numpy.ceil(3 * (6 + 2 * error) * scale / error**2)


def critical_error(number: numpy.ndarray, scale: numpy.ndarray) -> numpy.ndarray:
    """The e at which 3 (6 + 2 e) alpha / e^2 is `number`: below it there are more draws. Infinite for 0, 0 for inf."""
    with numpy.errstate(divide="ignore", invalid="ignore"):
        error = (3 * scale + numpy.sqrt(9 * scale**2 + 18 * scale * number)) / number
    return numpy.where(number <= 0, numpy.inf, numpy.where(numpy.isinf(number), 0, error))


def draws_of(
    kept: numpy.ndarray,
    units: Units,
    critical: numpy.ndarray,
    priority: numpy.ndarray,
    alive: numpy.ndarray,
) -> numpy.ndarray:
    """N of each unit when exactly these channels are kept; infinite for groups of which all that are alive are.

    It follows from the error of the last channel kept, the same for the whole net, and never is less than the kept
    channels of a group ask for, nor as many as would find another.
    """
    error = priority[kept].min(initial=numpy.inf)
    result = numpy.zeros(units.number)
    for group, scale in enumerate(alpha(units)):
        own = units.unit == 2 * group
        least = critical[own & kept].max(initial=1)
        beyond = critical[own & alive & ~kept].min(initial=numpy.inf)
        wanted = 1.0 if math.isinf(error) else draws(error, scale) if error > 0 else numpy.inf
        whole = not (own & alive & ~kept).any()
        result[2 * group] = numpy.inf if whole else min(max(wanted, least), beyond - 1)
    return result
