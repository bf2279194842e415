"""Wanda: weights by magnitude times the norm of what they read."""

import torch
from torch import Tensor, nn

from experiment.allocation.layers import Allocation
from experiment.masks import prunable_layers
from experiment.methods.method import ScoreMethod
from experiment.nets import call, device_of, evaluating, moved, split_batch, watching_inputs
from experiment.registry import METHODS
from experiment.seeding import Stream
from experiment.sensitivity.points import tiles
from experiment.statistics import Statistics


@METHODS.register
class Wanda(ScoreMethod):
    """Keep the weights with the largest |w[i,j]| x ||a[j]||, the l2 norm over all points of S (Sun
    et al. 2024, arXiv:2306.11695, equation 1), as there the same share of each row (output) of each
    layer.

    Departures: all norms are those of the unpruned net, while the paper prunes layer after layer
    and feeds each with what the pruned ones before it put out; convolutions are pruned too, a[j]
    being what a weight of the kernel reads at all positions, padding included; so are the first and
    the last layer, which the paper leaves whole; rows differ by one weight where the share of a row
    is no whole number.
    """

    def __init__(self, *, allocation: Allocation = "row"):
        super().__init__(allocation=allocation)

    def scores(self, statistics: Statistics, stream: Stream) -> dict[str, Tensor]:
        squares = statistics.once("squared input norms", lambda: squared_input_norms(statistics))
        return {name: weight.float().abs() * squares[name].sqrt()
                for name, weight in statistics.weights.items()}


@torch.no_grad()
def squared_input_norms(statistics: Statistics) -> dict[str, Tensor]:
    """Sum over all points of the square of what each weight of a layer reads, in the shape of the weight."""
    layers = prunable_layers(statistics.net)
    watched = {name: layers[name] for name in statistics.layers}
    result = {name: torch.zeros_like(weight, dtype=torch.float32)
              for name, weight in statistics.weights.items()}

    def add(name: str, layer: nn.Module, inputs: Tensor) -> None:
        for chunk in tiles(layer, inputs.float()):
            for points in chunk:  # samples, groups, K, patches
                squares = points.square().sum((0, 3))  # groups, K
                filters = len(result[name]) // len(squares)
                result[name] += squares.repeat_interleave(filters, 0).reshape(result[name].shape)

    with watching_inputs(watched, add), evaluating(statistics.net):
        for batch in statistics.batches:
            call(statistics.net, moved(split_batch(batch)[0], device_of(statistics.net)))
    return result
