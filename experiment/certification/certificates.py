"""What SiPP guarantees about the units of a pruned net.

The guarantee is about units: the positive and the negative weights of a neuron or filter, fed with
the activations of the unpruned net, on every point whose contributions are all within C times the
sensitivities. A unit whose weights keep their values has a relative error of at most C times the
dropped (max-reduced) sensitivity; a sampled unit has one of at most e(N), except with the failure
probability (SiPP, arXiv:1910.05422, Section 5).
"""

from dataclasses import dataclass

import numpy
import torch
from torch import Tensor

from experiment.allocation.bernstein import bernstein_error
from experiment.core.errors import UserError
from experiment.pruning.analysis import Analysis
from experiment.pruning.pruned import Pruned
from experiment.pruning.weight_units import sensitivity_units
from experiment.sensitivity.constants import C


@dataclass(frozen=True)
class Removal:
    """What a pruning has done to each unit."""

    dropped: numpy.ndarray  # [units], sum of the sensitivities of the weights that are gone
    sampled: numpy.ndarray  # [units], whether its weights were drawn, and not kept as they were
    draws: numpy.ndarray  # [units], how many draws; 0 where not sampled


class Certificates:
    """The certified relative errors of units, from the max-reduced sensitivities of a sample."""

    def __init__(self, analysis: Analysis):
        self.analysis = analysis
        self.units = sensitivity_units(analysis)
        self.sensitivities = analysis.sensitivities("max")

    def weight(self, layer: str) -> Tensor:
        """The oriented weight of a layer of the unpruned net."""
        return self.analysis.weights[layer]

    def cover(self, pruned: Pruned) -> bool:
        """Whether anything is certified about a pruned net.

        It is if weights keep their values, or were sampled by their sensitivities.
        """
        return pruned.decision.factors is None or pruned.decision.draws is not None

    def of(self, pruned: Pruned) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """By layer, the certified relative errors [filters, 2] and for which units draws give them.

        Raises UserError for weights that were reweighted in a way about which nothing is certified.
        """
        removal = self.removal(pruned)
        random = bernstein_error(self.units.total, removal.draws, self.analysis.delta)
        errors = numpy.where(removal.sampled, random, C * removal.dropped)
        return self.by_layer(errors), self.by_layer(removal.sampled)

    def removal(self, pruned: Pruned) -> Removal:
        """What a pruning has done to each unit. Raises UserError if nothing is certified of it."""
        if not self.cover(pruned):
            raise UserError(
                "nothing is certified about weights that were not sampled by their sensitivities"
            )
        kept = self.analysis.flat.join_masks(pruned.masks).cpu().numpy()
        dropped = self.units.sum(numpy.where(kept, 0, self.units.importance))
        sampled = numpy.zeros(self.units.num_units, dtype=bool)
        draws = pruned.decision.draws
        if draws is None:
            return Removal(dropped, sampled, numpy.zeros(self.units.num_units))
        # A unit that lost all its weights, as those of a dead filter do, has the error 1.
        sampled = numpy.isfinite(draws) & (self.units.sum(kept) > 0)
        return Removal(dropped, sampled, numpy.where(sampled, draws, 0))

    def by_layer(self, values: numpy.ndarray) -> dict[str, Tensor]:
        """Values of units [units] as [filters, 2] by layer."""
        num_units = [block.num_units for block in self.units.blocks]
        pieces = torch.from_numpy(values).split(num_units)
        return {
            name: piece.reshape(-1, 2) for name, piece in zip(self.analysis.flat.shapes, pieces)
        }
