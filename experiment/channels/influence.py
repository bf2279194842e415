"""A check of what a net's channels are: masked, they have no influence on the output."""

import copy
from typing import Any

import numpy
import torch
from torch import nn

from experiment.channels.channels import Channels, spread
from experiment.errors import UserError
from experiment.nets import call, evaluating, map_tensors, tensors

TOLERANCE = 1e-6  # relative, in double precision


@torch.no_grad()
def leaking(net: nn.Module, channels: Channels, inputs: Any) -> bool:
    """Whether the output changes when channels whose readers are masked compute something else.

    Asked for a random half of the channels, and for the other half.
    """
    inputs = map_tensors(lambda tensor: tensor.cpu().double() if tensor.is_floating_point() else tensor.cpu(), inputs)
    half = numpy.random.default_rng(0).random(channels.number) < 0.5
    for hidden in (half, ~half):
        changed = copy.deepcopy(net).cpu().double()
        with evaluating(changed):
            _mask_readers(changed, channels, hidden)
            before = tensors(call(changed, inputs))
            if not all(output.isfinite().all() for output in before):
                raise UserError("the net's output on the sample is not finite")
            _change(changed, channels, hidden)
            after = tensors(call(changed, inputs))
        if not all(torch.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE * float(one.abs().max()))
                   for one, other in zip(before, after) if one.numel()):
            return True
    return False


def _mask_readers(net: nn.Module, channels: Channels, hidden: numpy.ndarray) -> None:
    for name, channel in channels.columns.items():
        weight = net.get_submodule(name).weight
        where = torch.from_numpy(spread(hidden, channel, len(channel), False))
        weight[:, where.to(weight.device)] = 0


def _change(net: nn.Module, channels: Channels, hidden: numpy.ndarray) -> None:
    """Double what makes the hidden channels, and add a little."""
    parameters = dict(net.named_parameters())
    for tensor, channel in [*((net.get_submodule(name).weight, channel) for name, channel in channels.rows.items()),
                            *((parameters[name], channel) for name, channel in channels.vectors.items())]:
        where = torch.from_numpy(spread(hidden, channel, len(channel), False)).to(tensor.device)
        tensor[where] = 2 * tensor[where] + 0.1
