"""Masks of a net: which parameters are kept. True means kept."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Masks = dict[str, Tensor]  # parameter name -> bool tensor of the parameter's shape

PRUNABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def prunable_layers(net: nn.Module) -> dict[str, nn.Module]:
    """All linear and convolutional layers by qualified name, first and last included.

    Of layers that share one weight the first stands for all; a weight that is computed from other parameters
    (a parametrisation) has no mask of its own, so its layer is not prunable.
    """
    layers, seen = {}, set()
    for name, module in net.named_modules():
        weight = module._parameters.get("weight") if isinstance(module, PRUNABLE) else None
        if weight is not None and id(weight) not in seen:
            seen.add(id(weight))
            layers[name] = module
    return layers


def weight_names(net: nn.Module) -> dict[str, str]:
    """The parameter name of each prunable layer's weight: the first of its names where several modules share it."""
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    return {layer: names[id(module.weight)] for layer, module in prunable_layers(net).items()}


def keep_all(net: nn.Module) -> Masks:
    """Masks that keep every parameter."""
    return {name: torch.ones_like(parameter, dtype=torch.bool) for name, parameter in net.named_parameters()}


def size(masks: Masks) -> int:
    """The number of parameters that are not masked away; never a count of non-zero values."""
    return sum(int(mask.sum()) for mask in masks.values())


def largest(scores: Tensor, count: int, candidates: Tensor) -> Tensor:
    """A mask of exactly `count` of the candidates (all, if fewer) with the largest scores; ties go by index."""
    places = candidates.nonzero().flatten()
    order = torch.argsort(scores[places], descending=True, stable=True)
    keep = torch.zeros_like(candidates)
    keep[places[order[: max(count, 0)]]] = True
    return keep


def enforcer(net: nn.Module, masks: Masks) -> Callable[[], None]:
    """A function that sets the masked parameters of the net to zero, for use after each training step."""
    removed = [(parameter, ~masks[name]) for name, parameter in net.named_parameters()
               if name in masks and not masks[name].all()]

    @torch.no_grad()
    def enforce() -> None:
        for parameter, mask in removed:
            parameter.masked_fill_(mask, 0)

    return enforce
