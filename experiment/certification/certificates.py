"""What SiPP guarantees about the units of a pruned net.

The guarantee is about units: the positive and negative weights of a neuron or filter, fed with the activations of
the unpruned net. A unit whose weights are kept as they are has a relative error of at most C times the dropped
(max-reduced) sensitivity on every point whose contributions are all within C times the sensitivities; a sampled unit
has one of at most e(N), but for a failure probability (SiPP, arXiv:1910.05422, Section 5).
"""

import numpy
import torch
from torch import Tensor

from experiment.allocation.units import certified_random
from experiment.core.errors import UserError
from experiment.methods.sipp_rand import sensitivity_units
from experiment.pruning.analysis import Statistics
from experiment.pruning.pruner import Pruned
from experiment.sensitivity.sample_size import C


class Certificates:
    """The certified relative errors of units, from the max-reduced sensitivities of a sample."""

    def __init__(self, statistics: Statistics):
        self.statistics = statistics
        self.units = sensitivity_units(statistics)
        self.sensitivities = statistics.sensitivities("max")

    def weight(self, layer: str) -> Tensor:
        """The oriented weight of a layer of the unpruned net."""
        return self.statistics.weights[layer]

    def cover(self, pruned: Pruned) -> bool:
        """Whether something is certified: weights were kept as they are, or sampled by their sensitivities."""
        return pruned.selection.factors is None or pruned.selection.draws is not None

    def of(self, pruned: Pruned) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """By layer, the certified relative errors [filters, 2] and which units they hold for by sampling.

        Raises UserError for weights that were reweighted in a way about which nothing is certified.
        """
        if not self.cover(pruned):
            raise UserError(
                "nothing is certified about weights sampled otherwise than by their sensitivities"
            )
        kept = self.statistics.flat.join_masks(pruned.masks).cpu().numpy()
        errors = C * self.units.sum(numpy.where(kept, 0, self.units.importance))
        sampled = numpy.zeros(self.units.number, dtype=bool)
        if pruned.selection.draws is not None:
            # A unit that lost all its weights, as a dead filter's do, has no error by chance: it is 1.
            sampled = numpy.isfinite(pruned.selection.draws) & (self.units.sum(kept) > 0)
            draws = numpy.where(sampled, pruned.selection.draws, 0)
            random = certified_random(self.units.total, draws, self.statistics.delta)
            errors = numpy.where(sampled, random, errors)
        return self._by_layer(errors), self._by_layer(sampled)

    def _by_layer(self, values: numpy.ndarray) -> dict[str, Tensor]:
        filters = [layer.filters for layer in self.units.layers]
        pieces = torch.from_numpy(values).reshape(-1, 2).split(filters)
        return dict(zip(self.statistics.flat.shapes, pieces))
