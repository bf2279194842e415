"""Masks of a net: which parameters are kept."""

from collections.abc import Callable

import numpy
import torch
from torch import Tensor, nn

# Parameter name -> bool tensor of the parameter's shape; True means kept.
Masks = dict[str, Tensor]


def keep_all(net: nn.Module) -> Masks:
    """Masks that keep every parameter."""
    return {
        name: torch.ones_like(parameter, dtype=torch.bool)
        for name, parameter in net.named_parameters()
    }


def size(masks: Masks) -> int:
    """The number of parameters that are not masked away; never a count of non-zero values."""
    return sum(int(mask.count_nonzero()) for mask in masks.values())


def largest(scores: Tensor, count: int, candidates: Tensor) -> Tensor:
    """A mask of exactly `count` of the candidates (all, if fewer) with the largest scores.

    Among equal scores those with the lowest index are kept.
    """
    num_candidates = int(candidates.count_nonzero())
    if count <= 0:
        return torch.zeros_like(candidates)
    if count >= num_candidates:
        return candidates.clone()
    values = scores if num_candidates == len(scores) else scores[candidates]
    threshold = _value_of_rank(values, num_candidates - count)
    kept = candidates & (scores > threshold)
    ties = candidates & (scores == threshold)
    num_missing = count - int(kept.count_nonzero())
    if num_missing < int(ties.count_nonzero()):
        ties[ties.nonzero().flatten()[num_missing:]] = False
    return kept | ties


def _value_of_rank(values: Tensor, rank: int) -> Tensor:
    """The value that has this rank, counted from 0, in ascending order."""
    if values.is_cuda:
        return values.kthvalue(rank + 1).values
    if values.dtype.itemsize < 4:  # numpy does not know bfloat16
        values = values.float()
    partitioned = torch.from_numpy(numpy.partition(values.cpu().numpy(), rank))
    return partitioned[rank].to(values.device)


def set_removed_to_zero(net: nn.Module, masks: Masks) -> None:
    """Set all masked parameters to zero, in place."""
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name in masks:
                parameter.masked_fill_(~masks[name], 0)


def enforcer(net: nn.Module, masks: Masks) -> Callable[[], None]:
    """A function to call after each training step: it sets masked parameters to zero.

    One multiplication of all of them together takes a tenth of the time of one after the other.
    """
    parameters: list[Tensor] = []
    factors: list[Tensor] = []
    for name, parameter in net.named_parameters():
        if name in masks and not masks[name].all():
            parameters.append(parameter)
            factors.append(torch.empty_like(parameter.detach()).copy_(masks[name]))

    @torch.no_grad()
    def enforce() -> None:
        if parameters:
            torch._foreach_mul_(parameters, factors)

    return enforce
