"""Sensitivities computed as the formula is written, one filter and one sample at a time.

Slow; the fast implementation is checked against it.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from experiment.nets.running import run_in_eval_mode
from experiment.sensitivity.empirical import EPSILON, Reduction


def contributions(weights: Tensor, points: Tensor) -> Tensor:
    """g[j, p] of one unit, for weights [K] >= 0 and points [K, P] >= 0.

    Each column sums to 1, or is 0 if the unit sees nothing.
    """
    products = weights[:, None] * points
    z = products.sum(0)
    return torch.where(z > EPSILON, products / z, 0)


def reference_sensitivities(
    net: nn.Module, batches: Iterable[Any], reduction: Reduction
) -> dict[str, Tensor]:
    """The result of `experiment.sensitivities`, for linear layers and 2-dimensional convolutions.

    Padding must be with zeros, and given in numbers.
    """
    layers = {
        name: module
        for name, module in net.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }
    result = {
        name: torch.zeros_like(layer.weight, dtype=torch.float32) for name, layer in layers.items()
    }
    for batch in batches:
        hooks = [
            layer.register_forward_pre_hook(
                lambda layer, inputs, name=name: _add(result[name], layer, inputs[0], reduction)
            )
            for name, layer in layers.items()
        ]
        run_in_eval_mode(net, batch, *hooks)
    return result


def _add(
    result: Tensor, layer: nn.Linear | nn.Conv2d, inputs: Tensor, reduction: Reduction
) -> None:
    """Raise the sensitivities of a layer's weights by some inputs."""
    for sample in _samples(layer, inputs.float()):  # groups, K, P
        for points in (sample.clamp(min=0), (-sample).clamp(min=0)):
            for i, weights in enumerate(layer.weight.float()):
                group = i // (len(layer.weight) // len(sample))
                row = weights.flatten()
                positive = contributions(row.clamp(min=0), points[group])
                negative = contributions((-row).clamp(min=0), points[group])
                g = positive + negative
                reduced = g.mean(1) if reduction == "mean" else g.amax(1)
                result[i] = torch.maximum(result[i], reduced.reshape(weights.shape))


def _samples(layer: nn.Linear | nn.Conv2d, inputs: Tensor) -> Tensor:
    """The points [samples, groups, K, P] of a layer's inputs, by torch's own unfold."""
    if isinstance(layer, nn.Linear):
        return inputs.reshape(-1, 1, inputs.shape[-1], 1)
    if isinstance(layer.padding, str):
        raise TypeError(f"padding must be given in numbers, not as {layer.padding!r}")
    columns = nn.functional.unfold(
        inputs, layer.kernel_size, layer.dilation, layer.padding, layer.stride
    )
    return columns.unflatten(1, (layer.groups, -1))
