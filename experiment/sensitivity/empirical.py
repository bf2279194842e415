"""Empirical sensitivities of weights: how much each contributes to its neuron, at most, over a sample of data.

SiPP, arXiv:1910.05422, Definition 2 and Section 4. A unit is an output neuron or filter i with a sign s. For a
point a >= 0 with z[i,s] = sum_j W^s[i,j] a[j], weight j contributes g[i,j] = W^s[i,j] a[j] / z[i,s]. Since
g = |W[i,j]| * a[j] * R[i,s] with R = 1/z, only matrix products are needed and nothing of the size
filters x K x patches is ever built.
"""

import warnings
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from experiment.masks import prunable_layers
from experiment.nets import call, device_of, evaluating, moved, split_batch
from experiment.sensitivity.max_product import max_product_
from experiment.sensitivity.points import conv_points, linear_points, nonnegative_parts, num_patches

Reduction = Literal["mean", "max"]
EPSILON = torch.finfo(torch.float32).eps  # a unit with z at most this sees nothing


def sensitivities(net: nn.Module, batches: Iterable[Any], reduction: Reduction = "mean") -> dict[str, Tensor]:
    """Sensitivity of every weight of every linear and convolutional layer, in [0, 1].

    Args:
        net: any module; it is run in eval mode and left as it was.
        batches: the sample S, as `(inputs, targets)` or inputs alone; inputs may be a dict or tuple.
        reduction: over the patches of a sample, `"mean"` (deterministic SiPP) or `"max"` (SiPPRand, SiPPHybrid,
            certificates); over samples, always the maximum. For linear layers the two agree.

    Returns:
        For each layer's qualified name a float32 tensor of its weight's shape. Layers that never ran are absent,
        and named in a warning.
    """
    return measure(net, batches, (reduction,))[reduction]


def measure(net: nn.Module, batches: Iterable[Any],
            reductions: tuple[Reduction, ...]) -> dict[Reduction, dict[str, Tensor]]:
    """Sensitivities by several reductions in one pass over the batches."""
    layers = prunable_layers(net)
    owners = {id(layer.weight): name for name, layer in layers.items()}
    passes = {name: LayerPass(layer, reductions) for name, layer in layers.items()}

    def before_forward(module: nn.Module, args: tuple, kwargs: dict) -> None:
        passes[owners[id(module.weight)]].add(args[0] if args else kwargs["input"])

    handles = [module.register_forward_pre_hook(before_forward, with_kwargs=True) for module in net.modules()
               if id(module._parameters.get("weight")) in owners and isinstance(module, tuple(map(type, layers.values())))]
    try:
        with evaluating(net), torch.no_grad():
            for batch in batches:
                call(net, moved(split_batch(batch)[0], device_of(net)))
    finally:
        for handle in handles:
            handle.remove()
    silent = [name for name, layer_pass in passes.items() if not layer_pass.used]
    if silent:
        warnings.warn(f"layers that never ran have no sensitivities and are not pruned: {', '.join(silent)}",
                      stacklevel=3)
    return {reduction: {name: layer_pass.result(reduction) for name, layer_pass in passes.items() if layer_pass.used}
            for reduction in reductions}


class LayerPass:
    """The running maximum of g / |W| for the weights of one layer, fed with the layer's inputs."""

    def __init__(self, layer: nn.Module, reductions: tuple[Reduction, ...]):
        self.layer = layer
        self.used = False
        groups = getattr(layer, "groups", 1)
        self.weight = layer.weight.detach().float().flatten(1).unflatten(0, (groups, -1))  # groups, filters, K
        self.signed = torch.stack([self.weight.clamp(min=0), (-self.weight).clamp(min=0)], dim=1)
        self.negative = self.weight < 0
        # The two reductions of a linear layer agree; it keeps the maximum.
        kept = ("max",) if isinstance(layer, nn.Linear) else reductions
        self.running = {reduction: torch.zeros_like(self.weight) for reduction in kept}

    def add(self, inputs: Tensor) -> None:
        """Take the points of one input of the layer (any number of samples) into account."""
        self.used = True
        with torch.autocast(inputs.device.type, enabled=False):
            for part in nonnegative_parts(inputs.detach().float()):
                if isinstance(self.layer, nn.Linear):
                    for points in linear_points(self.layer, part):
                        self._update_max(points, self._reciprocals(points))
                else:
                    self._add_patches(part)

    def result(self, reduction: Reduction) -> Tensor:
        """Sensitivities in the shape of the weight."""
        running = self.running["max" if isinstance(self.layer, nn.Linear) else reduction]
        # Rounding can carry the only weight of a unit, whose contribution is 1, just above it.
        return (running * self.weight.abs()).clamp(max=1).reshape(self.layer.weight.shape)

    def _add_patches(self, inputs: Tensor) -> None:
        patches = num_patches(self.layer, inputs)
        for chunk in conv_points(self.layer, inputs):
            total = None
            for points in chunk:
                reciprocals = self._reciprocals(points)
                if "max" in self.running:
                    self._update_max(points, reciprocals)
                if "mean" in self.running:
                    summed = reciprocals.flatten(2, 3) @ points.mT  # samples, groups, 2 x filters, K
                    total = summed if total is None else total.add_(summed)
            if total is not None:
                positive, negative = (total / patches).unflatten(2, (2, -1)).unbind(2)
                mean = torch.where(self.negative, negative, positive).amax(0)
                torch.maximum(self.running["mean"], mean, out=self.running["mean"])

    def _reciprocals(self, points: Tensor) -> Tensor:
        """1 / z of every unit for points [samples, groups, K, patches]: [samples, groups, 2, filters, patches]."""
        z = (self.signed.flatten(1, 2) @ points).unflatten(2, (2, -1))
        return torch.where(z > EPSILON, z.reciprocal(), 0)

    def _update_max(self, points: Tensor, reciprocals: Tensor) -> None:
        for sample_points, sample_reciprocals in zip(points, reciprocals):
            for group, matrix in enumerate(sample_points):
                max_product_(self.running["max"][group], matrix, sample_reciprocals[group], self.weight[group])
