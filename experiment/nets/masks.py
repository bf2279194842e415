"""Masks of a net: which parameters are kept. True means kept."""

from collections.abc import Callable

import numpy
import torch
from torch import Tensor, nn

Masks = dict[str, Tensor]  # parameter name -> bool tensor of the parameter's shape


def keep_all(net: nn.Module) -> Masks:
    """Masks that keep every parameter."""
    return {
        name: torch.ones_like(parameter, dtype=torch.bool)
        for name, parameter in net.named_parameters()
    }


def size(masks: Masks) -> int:
    """The number of parameters that are not masked away; never a count of non-zero values."""
    return sum(int(mask.sum()) for mask in masks.values())


def largest(scores: Tensor, count: int, candidates: Tensor) -> Tensor:
    """A mask of exactly `count` of the candidates (all, if fewer) with the largest scores; ties go by index."""
    values = scores[candidates]
    if count <= 0 or count >= len(values):
        return candidates.clone() if count > 0 else torch.zeros_like(candidates)
    threshold = _ascending(values, len(values) - count)
    kept = values > threshold
    ties = (values == threshold).nonzero().flatten()
    kept[ties[: count - int(kept.sum())]] = True
    return torch.zeros_like(candidates).masked_scatter_(candidates, kept)


def _ascending(values: Tensor, place: int) -> Tensor:
    """The value at that place, from 0, in ascending order."""
    if values.is_cuda:
        return values.kthvalue(place + 1).values
    values = values.float() if values.dtype.itemsize < 4 else values  # numpy knows no bfloat16
    return torch.from_numpy(numpy.partition(values.cpu().numpy(), place))[place].to(values.device)


def enforcer(net: nn.Module, masks: Masks) -> Callable[[], None]:
    """A function that sets the masked parameters of the net to zero, for use after each training step."""
    removed = [
        (parameter, ~masks[name])
        for name, parameter in net.named_parameters()
        if name in masks and not masks[name].all()
    ]

    @torch.no_grad()
    def enforce() -> None:
        for parameter, mask in removed:
            parameter.masked_fill_(mask, 0)

    return enforce
