"""Sensitivities written as the formula reads, one filter and one sample at a time: slow, to check the fast ones."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from experiment.nets.running import evaluating, run
from experiment.sensitivity.empirical import EPSILON, Reduction


def contributions(weights: Tensor, points: Tensor) -> Tensor:
    """g[j, p] of one unit: its weights [K] >= 0 and points [K, P] >= 0; each column sums to 1 or is 0."""
    products = weights[:, None] * points
    z = products.sum(0)
    return torch.where(z > EPSILON, products / z, 0)


def reference_sensitivities(
    net: nn.Module, batches: Iterable[Any], reduction: Reduction
) -> dict[str, Tensor]:
    """The same as `experiment.sensitivities`, for linear layers and 2-dimensional convolutions with zero padding."""
    layers = {
        name: module
        for name, module in net.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }
    result = {
        name: torch.zeros_like(layer.weight, dtype=torch.float32) for name, layer in layers.items()
    }
    handles = [
        layer.register_forward_pre_hook(
            lambda layer, inputs, name=name: _add(result[name], layer, inputs[0].float(), reduction)
        )
        for name, layer in layers.items()
    ]
    try:
        with evaluating(net), torch.no_grad():
            for batch in batches:
                run(net, batch)
    finally:
        for handle in handles:
            handle.remove()
    return result


def _add(result: Tensor, layer: nn.Module, inputs: Tensor, reduction: Reduction) -> None:
    samples = (
        inputs.reshape(-1, 1, inputs.shape[-1], 1)
        if isinstance(layer, nn.Linear)
        else _unrolled(layer, inputs)
    )
    for sample in samples:  # groups, K, P
        for points in (sample.clamp(min=0), (-sample).clamp(min=0)):
            for i, weights in enumerate(layer.weight.float()):
                group = i // (len(layer.weight) // len(sample))
                row = weights.flatten()
                g = contributions(row.clamp(min=0), points[group]) + contributions(
                    (-row).clamp(min=0), points[group]
                )
                reduced = g.mean(1) if reduction == "mean" else g.amax(1)
                result[i] = torch.maximum(result[i], reduced.reshape(weights.shape))


def _unrolled(layer: nn.Conv2d, inputs: Tensor) -> Tensor:
    """Patches [samples, groups, K, P] by torch's own unfold."""
    columns = nn.functional.unfold(
        inputs, layer.kernel_size, layer.dilation, layer.padding, layer.stride
    )
    return columns.unflatten(1, (layer.groups, -1))
