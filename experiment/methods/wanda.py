"""Wanda: weights by magnitude times the norm of what they read."""

import torch
from torch import Tensor, nn

from experiment.allocation.layers import Allocation
from experiment.masks import prunable_layers
from experiment.methods.method import ScoreMethod
from experiment.nets import evaluating, run, watching_inputs
from experiment.registry import METHODS
from experiment.seeding import Stream
from experiment.sensitivity.points import tiles
from experiment.statistics import Statistics


@METHODS.register
class Wanda(ScoreMethod):
    """Keep the weights with the largest |w[i,j]| x ||a[j]||, the l2 norm over all points of S (Sun et al. 2024).

    Norms of different layers are not comparable, so that scores are compared within layers by default.
    """

    def __init__(self, *, allocation: Allocation = "uniform"):
        super().__init__(allocation=allocation)

    def scores(self, statistics: Statistics, stream: Stream) -> dict[str, Tensor]:
        layers = prunable_layers(statistics.net)
        squares = statistics.once("squared input norms", lambda: squared_input_norms(statistics))
        return {name: layers[name].weight.detach().float().abs() * squares[name].sqrt() for name in statistics.layers}


@torch.no_grad()
def squared_input_norms(statistics: Statistics) -> dict[str, Tensor]:
    """Sum over all points of the square of what each weight of a layer reads, in the shape of the weight."""
    layers = prunable_layers(statistics.net)
    watched = {name: layers[name] for name in statistics.layers}
    result = {name: torch.zeros_like(layer.weight, dtype=torch.float32) for name, layer in watched.items()}

    def add(name: str, layer: nn.Module, inputs: Tensor) -> None:
        for chunk in tiles(layer, inputs.float()):
            for points in chunk:  # samples, groups, K, patches
                squares = points.square().sum((0, 3))  # groups, K
                filters = len(layer.weight) // len(squares)
                result[name] += squares.repeat_interleave(filters, 0).reshape(result[name].shape)

    with watching_inputs(watched, add), evaluating(statistics.net):
        for batch in statistics.batches:
            run(statistics.net, batch)
    return result
