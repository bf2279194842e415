"""Empirical sensitivities: how much each weight contributes to its neuron, at most over a sample.

SiPP, arXiv:1910.05422, Definition 2 and Section 4. A unit is an output neuron or filter i with a
sign s. For a point a >= 0 with z[i,s] = sum_j W^s[i,j] a[j], weight j contributes
g[i,j] = W^s[i,j] a[j] / z[i,s]. Since g = |W[i,j]| * a[j] * R[i,s] with R = 1/z, only matrix
products are needed, and nothing of the size filters x K x patches is ever built.
"""

from collections.abc import Iterable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

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
        net: any module; it runs in eval mode and is not modified.
        batches: the sample S, a list, DataLoader or other iterable of `(inputs, targets)`, of dicts
            of keyword arguments, or of inputs alone; see `experiment.nets.batches`.
        reduction: over the patches of a sample, `"mean"` (deterministic SiPP) or `"max"` (SiPPRand,
            SiPPHybrid, certificates); over samples it is always the maximum. For linear layers the
            two agree.

    Returns:
        For each layer's qualified name a float32 tensor of its weight's shape. Layers that never
        ran are absent, and named in a warning.

    Raises:
        UserError: for unusable arguments, with a message that says what would be right.

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
    """Oriented sensitivities of layers by several reductions, in one pass over the batches.

    Raises UserError for weights or inputs that are not finite.
    """
    maxima: dict[str, RunningMaxima] = {}
    for name, layer in layers.items():
        weight = layer.weight(net)
        if not weight.isfinite().all():
            raise UserError(f"the weight of layer {name} holds numbers that are not finite")
        maxima[name] = RunningMaxima(weight, layer.num_patches, reductions)
    watch(net, layers, batches, lambda name, product, num_samples: maxima[name].add(product))
    result: dict[Reduction, dict[str, Tensor]] = {reduction: {} for reduction in reductions}
    for name in layers:
        own = maxima.pop(name)  # its memory is free for the next
        for reduction in reductions:
            result[reduction][name] = own.sensitivity(reduction)
    return result


class RunningMaxima:
    """The maxima of g / |W| for one oriented weight over the products seen so far."""

    def __init__(self, weight: Tensor, num_patches: int, reductions: tuple[Reduction, ...]):
        self.weight = weight.detach().float()
        # Over a single patch the mean is the maximum.
        self.computed = {
            reduction: "max" if num_patches == 1 else reduction for reduction in reductions
        }
        self.running = {
            reduction: torch.zeros_like(self.weight.flatten(1))
            for reduction in self.computed.values()
        }

    def add(self, product: Product) -> None:
        """Take into account the inputs of one product with (a block of) the weight."""

        def block_of(matrix: Tensor) -> Tensor:  # [groups, filters, K]
            return matrix[product.rows, product.columns].unflatten(0, (product.groups, -1))

        weight = block_of(self.weight.flatten(1)).contiguous()
        running = {
            reduction: block_of(values).contiguous() for reduction, values in self.running.items()
        }
        signed = torch.cat([weight.clamp(min=0), weight.clamp(max=0).neg_()], dim=1)
        for part in nonnegative_parts(product.inputs.detach().float()):
            _add_part(running, tiles(product, part), weight, signed)
        for reduction, values in running.items():  # no copy if the block is the whole weight
            block_of(self.running[reduction]).copy_(values)

    def sensitivity(self, reduction: Reduction) -> Tensor:
        """Sensitivities in the shape of the weight."""
        largest = self.running[self.computed[reduction]].view(self.weight.shape)
        # Rounding can raise the contribution of a unit's only weight, which is 1, just above 1.
        return (largest * self.weight.abs()).clamp_(max=1)


def _add_part(
    running: dict[Reduction, Tensor],
    chunks: Iterable[Iterable[Tensor]],
    weight: Tensor,
    signed: Tensor,
) -> None:
    """Raise the running maxima [groups, filters, K] by chunks of samples, given as their tiles."""
    largest = torch.zeros_like(signed) if "mean" in running else None  # sum over P, of both signs
    num_points = 0  # P, the same for all samples
    for chunk in chunks:
        total: Tensor | None = None  # samples, groups, 2 x filters, K
        num_points = 0
        for points in chunk:
            reciprocals = _reciprocals(points, signed)
            if "max" in running:
                max_product_(running["max"], points, reciprocals.unflatten(2, (2, -1)), weight)
            if largest is not None:
                sums = reciprocals @ points.mT
                total = sums if total is None else total.add_(sums)
                num_points += points.shape[-1]
        if largest is not None and total is not None:
            torch.maximum(largest, total.amax(0) if len(total) > 1 else total[0], out=largest)
    if largest is not None and num_points:
        # Division and selection keep the order, so that once for all samples is enough.
        positive, negative = largest.div_(num_points).chunk(2, dim=1)
        mean = torch.where(weight < 0, negative, positive)
        torch.maximum(running["mean"], mean, out=running["mean"])


def _reciprocals(points: Tensor, signed: Tensor) -> Tensor:
    """R = 1 / z of every unit, 0 if it sees nothing: [samples, groups, 2 x filters, P].

    `points` are [samples, groups, K, P], `signed` the positive and then the negative parts of the
    weights [groups, 2 x filters, K].
    """
    return torch.threshold_(signed @ points, EPSILON, torch.inf).reciprocal_()
