"""Wanda: score weights by magnitude times the norm of their inputs."""

import torch
from torch import Tensor

from experiment.allocation.layers import Allocation
from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.nets.layers import watch
from experiment.nets.products import Product
from experiment.pruning.analysis import Analysis
from experiment.pruning.method import ScoreMethod
from experiment.sensitivity.points import tiles


@METHODS.register
class Wanda(ScoreMethod):
    """Keep the weights with the largest |w[i,j]| x ||a[j]||, the l2 norm over all points of S.

    Sun et al. 2024, arXiv:2306.11695, equation 1. As there, the same share of each row (output) of
    each layer is kept.

    Departures: all norms are those of the unpruned net, while the paper prunes layer after layer
    and feeds each with the outputs of the pruned ones before it; convolutions are pruned too, a[j]
    being what a weight of the kernel reads at all positions, padding included; so are the first and
    the last layer, which the paper leaves whole; rows differ by one weight where the share of a row
    is not a whole number.
    """

    def __init__(self, *, allocation: Allocation = "row"):
        super().__init__(allocation=allocation)

    def scores(self, analysis: Analysis, stream: Stream) -> dict[str, Tensor]:
        squares = analysis.once("squared input norms", lambda: squared_input_norms(analysis))
        return {
            name: weight.float().abs() * squares[name].sqrt()
            for name, weight in analysis.weights.items()
        }


def squared_input_norms(analysis: Analysis) -> dict[str, Tensor]:
    """The sum over all points of the square of what each weight reads, in the weight's shape."""
    result = {
        name: torch.zeros(weight.shape, device=weight.device)
        for name, weight in analysis.weights.items()
    }

    def add(name: str, product: Product, num_samples: int) -> None:
        block = result[name].flatten(1)[product.rows, product.columns]
        for chunk in tiles(product, product.inputs.float()):
            for points in chunk:  # samples, groups, K, patches
                squares = points.square().sum((0, 3))  # groups, K
                block += squares.repeat_interleave(len(block) // len(squares), 0)

    watch(analysis.net, analysis.layers, analysis.batches, add)
    return result
