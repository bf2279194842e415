"""The units of a net's weights: the positive and the negative ones of each neuron or filter."""

import torch
from torch import Tensor

from experiment.allocation.units import Units, signed_weights
from experiment.pruning.analysis import Analysis


def sensitivity_units(analysis: Analysis) -> Units:
    """The units of a net with the max-reduced sensitivities of its weights."""
    return weight_units(analysis, analysis.flat.join(analysis.sensitivities("max")))


def weight_units(analysis: Analysis, importance: Tensor) -> Units:
    """The units of a net with an importance of each weight of the flat vector, float32.

    Weights that were pruned earlier have none.
    """
    candidates = analysis.candidates
    present = importance if candidates.all() else torch.where(candidates, importance, 0)
    negative = analysis.flat.join({name: weight < 0 for name, weight in analysis.weights.items()})
    layers = analysis.layers.values()
    return signed_weights(present.cpu().numpy(), negative.cpu().numpy(), layers, analysis.delta)
