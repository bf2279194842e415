"""BatchNorm with the means and variances of the whole batch, of which processes have shares.

torch.nn.SyncBatchNorm does the same on GPUs alone.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, distributed
from torch.nn.functional import batch_norm
from torch.overrides import TorchFunctionMode

ARGUMENTS = inspect.signature(batch_norm)


class SyncedBatchNorm(TorchFunctionMode):
    """A block in which every BatchNorm that trains does so on the images of all processes.

    Whatever module calls it, as long as all processes run the same net on at least one image.
    """

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if function is not batch_norm:
            return function(*args, **(kwargs or {}))
        given = ARGUMENTS.bind(*args, **(kwargs or {}))
        given.apply_defaults()
        options = given.arguments
        if not options.pop("training"):
            return function(*args, **(kwargs or {}))
        return synced_batch_norm(**options)


def synced_batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """What torch's `batch_norm` gives in training for the inputs [N, C, ...] of all processes."""
    mean, variance, count = _moments(input.detach())
    if running_mean is not None and running_var is not None:
        unbiased = variance * count / (count - 1)
        running_mean.lerp_(mean.to(running_mean), momentum)
        running_var.lerp_(unbiased.to(running_var), momentum)
    return _Normalise.apply(input, weight, bias, mean.float(), variance.float(), count, eps)


def _moments(input: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Means and variances [C] over all processes, and over how many numbers they are."""
    count = input.numel() // input.shape[1]
    variance, mean = torch.var_mean(input.float(), _all_but_channels(input), correction=0)
    mean, variance = mean.double(), variance.double()
    sums = torch.cat([mean * count, (variance + mean**2) * count, mean.new_tensor([count])])
    distributed.all_reduce(sums)
    means, squares = (sums[:-1] / sums[-1]).chunk(2)
    return means, (squares - means**2).clamp(min=0), sums[-1]


class _Normalise(torch.autograd.Function):
    """Normalises with given moments; they depend on the inputs, of other processes too."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        count: Tensor,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(input, weight, mean, (variance + eps).rsqrt(), count)
        return batch_norm(input, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        input, weight, mean, scale, count = ctx.saved_tensors
        gradient = gradients[0].float()
        shape = [1, -1, *[1] * (input.dim() - 2)]
        normal = (input.float() - mean.view(shape)) * scale.view(shape)
        dims = _all_but_channels(input)
        of_bias, of_weight = gradient.sum(dims), (gradient * normal).sum(dims)
        sums = torch.cat([of_bias, of_weight])
        distributed.all_reduce(sums)  # the moments of all processes have changed
        first, second = (sums / count.float()).chunk(2)
        centred = gradient - first.view(shape) - normal * second.view(shape)
        factor = scale if weight is None else scale * weight
        of_input = (centred * factor.view(shape)).to(input.dtype)
        of_each = (of_input, of_weight, of_bias, None, None, None, None)
        return tuple(one if need else None for one, need in zip(of_each, ctx.needs_input_grad))


def _all_but_channels(input: Tensor) -> list[int]:
    return [dim for dim in range(input.dim()) if dim != 1]
