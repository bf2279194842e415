"""Masks of a net: which parameters are kept."""

import math
from collections.abc import Callable

import numpy
import torch
from torch import Tensor, nn

# Parameter name -> bool tensor of the parameter's shape; True means kept.
Masks = dict[str, Tensor]
SELECTED_AT_ONCE = 2**20  # scores that are compared at a time
SPACING = 61  # of the scores that are sampled; a prime, as the sizes of layers are none


def keep_all(net: nn.Module) -> Masks:
    """Masks that keep every parameter."""
    return {name: mask.contiguous() for name, mask in constant_masks(net).items()}


def constant_masks(net: nn.Module) -> Masks:
    """The same, not to be written to: each is one element in memory."""
    return {
        name: torch.ones((), dtype=torch.bool, device=parameter.device).expand(parameter.shape)
        for name, parameter in net.named_parameters()
    }


def keeps_all(mask: Tensor) -> bool:
    """Whether a mask is one of `constant_masks`; no other one is looked at."""
    return mask.numel() > 1 and not any(mask.stride()) and bool(mask.flatten()[0])


def both(mask: Tensor, other: Tensor) -> Tensor:
    """What two masks keep, not to be written to: it may be the other one."""
    return other if keeps_all(mask) else mask & other


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
    threshold = _value_of_rank(scores, candidates, num_candidates - count)
    kept = (scores > threshold).logical_and_(candidates)
    ties = (scores == threshold).logical_and_(candidates)
    num_missing = count - int(kept.count_nonzero())
    if num_missing < int(ties.count_nonzero()):
        ties[ties.nonzero().flatten()[num_missing:]] = False
    return kept.logical_or_(ties)


def _value_of_rank(scores: Tensor, candidates: Tensor, rank: int) -> Tensor:
    """The candidates' score that has this rank, counted from 0, in ascending order."""
    if scores.is_cuda:
        return scores[candidates].kthvalue(rank + 1).values
    if scores.dtype.itemsize < 4:  # numpy does not know bfloat16
        scores = scores.float()
    value = _select(scores.cpu().numpy(), candidates.cpu().numpy(), rank)
    return torch.as_tensor(value, device=candidates.device)


def _select(scores: numpy.ndarray, candidates: numpy.ndarray, rank: int) -> numpy.floating:
    """The same. Only scores that are close to it are copied: all of them would fill a net."""
    low, high = _bracket(scores[::SPACING][candidates[::SPACING]], rank / candidates.sum())
    starts = range(0, len(scores), SELECTED_AT_ONCE)
    chunks = [slice(start, start + SELECTED_AT_ONCE) for start in starts]
    num_below = sum(
        numpy.count_nonzero(candidates[chunk] & (scores[chunk] < low)) for chunk in chunks
    )
    close = numpy.concatenate(
        [_between(scores[chunk], candidates[chunk], low, high) for chunk in chunks]
    )
    if not num_below <= rank < num_below + len(close):  # the sample is not representative
        num_below, close = 0, scores[candidates]
    close.partition(rank - num_below)
    return close[rank - num_below]


def _between(
    scores: numpy.ndarray, candidates: numpy.ndarray, low: float, high: float
) -> numpy.ndarray:
    """The candidates' scores from one value to another, both included."""
    return scores[candidates & (scores >= low) & (scores <= high)]


def _bracket(sample: numpy.ndarray, share: float) -> tuple[float, float]:
    """Two values between which the one that a share of all is below is likely to be."""
    margin = 1 + 4 * math.sqrt(len(sample))  # ranks; the root is at least two deviations
    low, high = math.floor(share * len(sample) - margin), math.ceil(share * len(sample) + margin)
    ordered = numpy.sort(sample)
    return (
        ordered[low] if low >= 0 else -math.inf,
        ordered[high] if high < len(sample) else math.inf,
    )


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
