"""Empirical sensitivities of weights: how much each contributes to its neuron, at most, over a sample of data.

SiPP, arXiv:1910.05422, Definition 2 and Section 4. A unit is an output neuron or filter i with a sign s. For a
point a >= 0 with z[i,s] = sum_j W^s[i,j] a[j], weight j contributes g[i,j] = W^s[i,j] a[j] / z[i,s]. Since
g = |W[i,j]| * a[j] * R[i,s] with R = 1/z, only matrix products are needed and nothing of the size
filters x K x patches is ever built.
"""

import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiment.batches import as_batches
from experiment.checks import one_of, usable_net
from experiment.errors import UserError
from experiment.masks import PRUNABLE, prunable_layers
from experiment.nets import evaluating, run, watching_inputs
from experiment.sensitivity.max_product import max_product_
from experiment.sensitivity.points import nonnegative_parts, tiles

Reduction = Literal["mean", "max"]
EPSILON = torch.finfo(torch.float32).eps  # a unit with z at most this sees nothing


def sensitivities(net: nn.Module, batches: Iterable[Any], reduction: Reduction = "mean") -> dict[str, Tensor]:
    """Sensitivity of every weight of every linear and convolutional layer, in [0, 1].

    Args:
        net: any module; it is run in eval mode and left as it was.
        batches: the sample S, a list, DataLoader or other iterable of `(inputs, targets)`, of
            dicts of keyword arguments, or of inputs alone; `experiment.batches` says what exactly.
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
    return measure(usable_net(net), as_batches(net, batches), (reduction,))[reduction]


def measure(net: nn.Module, batches: Iterable[Any],
            reductions: tuple[Reduction, ...]) -> dict[Reduction, dict[str, Tensor]]:
    """Sensitivities by several reductions in one pass over the batches.

    Raises UserError for weights or inputs that are not finite, and if there are no batches.
    """
    layers = prunable_layers(net)
    for name, layer in layers.items():
        if not layer.weight.isfinite().all():
            raise UserError(f"the weight of layer {name} holds numbers that are not finite")
    passes = {id(layer.weight): WeightPass(layer, reductions) for layer in layers.values()}
    users = {name: module for name, module in net.named_modules()
             if isinstance(module, PRUNABLE) and id(module._parameters.get("weight")) in passes}
    with watching_inputs(users, lambda name, layer, inputs: passes[id(layer.weight)].add(layer, inputs)), \
            evaluating(net), torch.no_grad():
        for batch in nonempty(batches):
            run(net, batch)
    used = {name: passes[id(layer.weight)] for name, layer in layers.items() if passes[id(layer.weight)].used}
    if len(used) < len(layers):
        warnings.warn("layers that never ran have no sensitivities and are not pruned: "
                      + ", ".join(name for name in layers if name not in used), stacklevel=3)
    return {reduction: {name: weight_pass.result(reduction) for name, weight_pass in used.items()}
            for reduction in reductions}


def nonempty(batches: Iterable[Any]) -> Iterator[Any]:
    """The batches. Raises UserError if there are none."""
    batch = None
    for batch in batches:
        yield batch
    if batch is None:
        raise UserError("batches is empty: sensitivities need at least one batch of samples")


class WeightPass:
    """The running maximum of g / |W| for one weight, fed with the inputs of the layer, or layers, that use it."""

    def __init__(self, layer: nn.Module, reductions: tuple[Reduction, ...]):
        self.weight = layer.weight.detach()
        self.used = False
        # A point of a linear layer is a sample of one patch, so that its two reductions agree.
        self.kept = {reduction: "max" if isinstance(layer, nn.Linear) else reduction for reduction in reductions}
        self.running = {kept: torch.zeros_like(self.weight.flatten(1), dtype=torch.float32)
                        for kept in self.kept.values()}

    @torch.no_grad()
    def add(self, layer: nn.Module, inputs: Tensor) -> None:
        """Take one input of a layer that uses the weight (any number of samples) into account."""
        self.used = True
        groups = getattr(layer, "groups", 1)
        weight = self.weight.float().flatten(1).unflatten(0, (groups, -1))  # groups, filters, K
        running = {kept: value.unflatten(0, (groups, -1)) for kept, value in self.running.items()}
        signed = torch.cat([weight.clamp(min=0), weight.clamp(max=0).neg_()], dim=1)
        with torch.autocast(inputs.device.type, enabled=False):
            for part in nonnegative_parts(inputs.detach().float()):
                for chunk in tiles(layer, part):
                    _add_chunk(running, chunk, weight, signed)

    def result(self, reduction: Reduction) -> Tensor:
        """Sensitivities in the shape of the weight."""
        # Rounding can carry the only weight of a unit, whose contribution is 1, just above it.
        return (self.running[self.kept[reduction]].view(self.weight.shape) * self.weight.float().abs()).clamp_(max=1)


def _add_chunk(running: dict[Reduction, Tensor], chunk: Iterable[Tensor], weight: Tensor, signed: Tensor) -> None:
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
