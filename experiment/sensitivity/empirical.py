"""Empirical sensitivities of weights: how much each contributes to its neuron, at most, over a sample of data.

SiPP, arXiv:1910.05422, Definition 2 and Section 4. A unit is an output neuron or filter i with a sign s. For a
point a >= 0 with z[i,s] = sum_j W^s[i,j] a[j], weight j contributes g[i,j] = W^s[i,j] a[j] / z[i,s]. Since
g = |W[i,j]| * a[j] * R[i,s] with R = 1/z, only matrix products are needed and nothing of the size
filters x K x patches is ever built.
"""

from collections.abc import Iterable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiment.core.errors import UserError
from experiment.nets.batches import as_batches
from experiment.nets.checks import one_of, usable_net
from experiment.nets.layers import PrunableLayer, find_layers, require_layers, watch
from experiment.nets.products import Product
from experiment.sensitivity.max_product import max_product_
from experiment.sensitivity.points import nonnegative_parts, tiles

Reduction = Literal["mean", "max"]
EPSILON = torch.finfo(torch.float32).eps  # a unit with z at most this sees nothing


def sensitivities(
    net: nn.Module, batches: Iterable[Any], reduction: Reduction = "mean"
) -> dict[str, Tensor]:
    """Sensitivity of every weight of every linear and convolutional layer, in [0, 1].

    Args:
        net: any module; it is run in eval mode and left as it was.
        batches: the sample S, a list, DataLoader or other iterable of `(inputs, targets)`, of
            dicts of keyword arguments, or of inputs alone; `experiment.nets.batches` says what exactly.
        reduction: over the patches of a sample, `"mean"` (deterministic SiPP) or `"max"` (SiPPRand, SiPPHybrid,
            certificates); over samples, always the maximum. For linear layers the two agree.

    Returns:
        For each layer's qualified name a float32 tensor of its weight's shape. Layers that never ran are absent,
        and named in a warning.

    Raises:
        UserError: for whatever cannot be used, in one sentence that says what would be right.

    Example:
        >>> scores = experiment.sensitivities(net, loader, reduction="max")
        >>> scores["conv1"].shape == net.conv1.weight.shape
        True
    """
    reduction = one_of("reduction", reduction, get_args(Reduction))
    batches = list(as_batches(usable_net(net), batches))
    layers = require_layers(find_layers(net, batches)).prunable
    measured = measure(net, layers, batches, (reduction,))[reduction]
    return {name: layer.oriented(measured[name]) for name, layer in layers.items()}


def measure(
    net: nn.Module,
    layers: dict[str, PrunableLayer],
    batches: Iterable[Any],
    reductions: tuple[Reduction, ...],
) -> dict[Reduction, dict[str, Tensor]]:
    """Oriented sensitivities of layers by several reductions in one pass over the batches.

    Raises UserError for weights or inputs that are not finite.
    """
    for name, layer in layers.items():
        if not layer.weight(net).isfinite().all():
            raise UserError(f"the weight of layer {name} holds numbers that are not finite")
    passes = {
        name: WeightPass(layer.weight(net), layer.patches == 1, reductions)
        for name, layer in layers.items()
    }
    watch(net, layers, batches, lambda name, product, samples: passes[name].add(product))
    return {
        reduction: {name: weight_pass.result(reduction) for name, weight_pass in passes.items()}
        for reduction in reductions
    }


class WeightPass:
    """The running maximum of g / |W| for one oriented weight, fed with its products."""

    def __init__(self, weight: Tensor, one_patch: bool, reductions: tuple[Reduction, ...]):
        self.weight = weight.detach().float()
        # Over a single patch the two reductions agree.
        self.kept = {reduction: "max" if one_patch else reduction for reduction in reductions}
        self.running = {
            kept: torch.zeros_like(self.weight.flatten(1)) for kept in self.kept.values()
        }

    def add(self, product: Product) -> None:
        """Take the inputs of one product with (a block of) the weight into account."""
        groups = 1 if product.convolution is None else product.convolution.groups

        def block_of(matrix: Tensor) -> Tensor:  # [groups, filters, K]
            return matrix[product.rows, product.columns].unflatten(0, (groups, -1))

        weight = block_of(self.weight.flatten(1)).contiguous()
        found = {kept: block_of(value).contiguous() for kept, value in self.running.items()}
        signed = torch.cat([weight.clamp(min=0), weight.clamp(max=0).neg_()], dim=1)
        for part in nonnegative_parts(product.inputs.detach().float()):
            for chunk in tiles(product, part):
                _add_chunk(found, chunk, weight, signed)
        for kept, value in found.items():  # no copy where the block is the whole
            block_of(self.running[kept]).copy_(value)

    def result(self, reduction: Reduction) -> Tensor:
        """Sensitivities in the shape of the weight."""
        # Rounding can carry the only weight of a unit, whose contribution is 1, just above it.
        largest = self.running[self.kept[reduction]].view(self.weight.shape)
        return (largest * self.weight.abs()).clamp_(max=1)


def _add_chunk(
    running: dict[Reduction, Tensor], chunk: Iterable[Tensor], weight: Tensor, signed: Tensor
) -> None:
    """Raise the running maxima [groups, filters, K] by some samples, whose points come as the tiles of a chunk."""
    total, patches = 0, 0
    for points in chunk:
        reciprocals = _reciprocals(points, signed)
        if "max" in running:
            max_product_(running["max"], points, reciprocals.unflatten(2, (2, -1)), weight)
        if "mean" in running:
            total = total + reciprocals @ points.mT  # samples, groups, 2 x filters, K
            patches += points.shape[-1]
    if patches:
        positive, negative = total.amax(0).div_(patches).chunk(2, dim=1)
        mean = torch.where(weight < 0, negative, positive)
        torch.maximum(running["mean"], mean, out=running["mean"])


def _reciprocals(points: Tensor, signed: Tensor) -> Tensor:
    """1 / z of every unit, 0 where it sees nothing, for points [samples, groups, K, P] and the signed parts of the
    weights [groups, 2 x filters, K]: [samples, groups, 2 x filters, P]."""
    return functional.threshold_(signed @ points, EPSILON, torch.inf).reciprocal_()
