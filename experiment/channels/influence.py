"""A check of a net's channels: once masked, they have no influence on the output."""

from typing import Any

import numpy
import torch
from torch import Tensor, nn

from experiment.channels.channels import Channels, spread
from experiment.core.errors import UserError
from experiment.nets.layers import joint_name
from experiment.nets.running import copy_of
from experiment.nets.surrogates import InPrecision, run_in_precision
from experiment.nets.tensors import map_tensors, tensors

TOLERANCE = 1e-6  # relative, in double precision


class Influence:
    """A copy of a net in double precision, in which some channels compute something else."""

    def __init__(self, net: nn.Module, inputs: Any):
        self.net = copy_of(net).cpu().double()
        self.inputs = map_tensors(
            lambda tensor: tensor.cpu().double() if tensor.is_floating_point() else tensor.cpu(),
            inputs,
        )

    @torch.no_grad()
    def leaking(self, channels: Channels) -> bool:
        """Whether the output changes if channels whose readers are masked compute something else.

        Tested for a random half of the channels, and for the other half.
        """
        half = numpy.random.default_rng(0).random(channels.num_channels) < 0.5
        return any(self._changes(channels, hidden) for hidden in (half, ~half))

    def _changes(self, channels: Channels, hidden: numpy.ndarray) -> bool:
        """Whether the output changes for the hidden channels [channels]."""
        readers = _readers(self.net, channels)
        makers = _makers(self.net, channels)
        saved = {id(tensor): (tensor, tensor.clone()) for tensor, _ in readers + makers}
        try:
            for weight, channel in readers:
                weight.mul_(1 - _is_hidden(hidden, channel, weight, 1))
            before = self._outputs()
            if not all(output.isfinite().all() for output in before):
                raise UserError("the net's output on the sample is not finite")
            for tensor, channel in makers:  # double what makes the channels, and add a little
                is_hidden = _is_hidden(hidden, channel, tensor, 0)
                tensor.mul_(1 + is_hidden).add_(0.1 * is_hidden)
            after = self._outputs()
        finally:
            for tensor, original in saved.values():
                tensor.copy_(original)
        return len(before) != len(after) or not all(map(_equal, before, after))

    def _outputs(self) -> list[Tensor]:
        output = run_in_precision(self.net, self.inputs, InPrecision())
        return [tensor.double() for tensor in tensors(output)]


def _equal(before: Tensor, after: Tensor) -> bool:
    if before.shape != after.shape:
        return False
    if not before.numel():
        return True
    largest = float(before.abs().max())
    return torch.allclose(before, after, rtol=TOLERANCE, atol=TOLERANCE * largest)


def _readers(net: nn.Module, channels: Channels) -> list[tuple[Tensor, numpy.ndarray]]:
    """The weights that read channels, with the channel of each column."""
    return [(_weight(net, name), channel) for name, channel in channels.columns.items()]


def _makers(net: nn.Module, channels: Channels) -> list[tuple[Tensor, numpy.ndarray]]:
    """The parameters that make channels, with the channel of each row or entry."""
    return [
        *((_weight(net, name), channel) for name, channel in channels.rows.items()),
        *((net.get_parameter(name), channel) for name, channel in channels.vectors.items()),
    ]


def _weight(net: nn.Module, layer: str) -> Tensor:
    return net.get_parameter(joint_name(layer, "weight"))


def _is_hidden(hidden: numpy.ndarray, channel: numpy.ndarray, tensor: Tensor, dim: int) -> Tensor:
    """1 where a row or column, along `dim`, belongs to a hidden channel, else 0; broadcasts."""
    shape = [1] * tensor.dim()
    shape[dim] = len(channel)
    values = spread(hidden, channel, len(channel), False)
    return torch.from_numpy(values).to(tensor).reshape(shape)
