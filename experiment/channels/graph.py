"""Finding the channels of a net, coupled by additions, concatenations, shuffles and flattening.

The net runs once on one sample, while each row of a layer's weight is followed to the columns of
the weights that read what it makes. Not removable are channels that
- are outputs of the net, its classes for instance;
- pass a convolution with groups that is not depthwise: removing one would leave the groups unequal;
- pass LayerNorm, GroupNorm, attention, or any other operation that may mix them with others;
- meet a layer of another kind with parameters, a transposed convolution for instance, or a
  parameter of its own;
- are made or read by a weight that several modules share, or that is used outside of its module;
- are alone in their group, of which one always stays;
- turn out to have an influence that was not seen.
"""

from collections.abc import Container
from typing import Any

import numpy
import torch
from torch import nn

from experiment.channels.channels import Channels
from experiment.channels.influence import Influence
from experiment.channels.trace import Trace
from experiment.core.errors import UserError, one_line
from experiment.nets.running import call, device_of, evaluating, first_sample, moved, tensors


def find_channels(net: nn.Module, example: Any, layers: Container[str] | None = None) -> Channels:
    """The removable channels of a net; of `example`, one batch for it, the first sample is used.

    `layers` are the names of those linear and convolutional modules, if not all, whose weights can
    be pruned.

    Raises:
        UserError: if the net cannot be followed, or no channel of it can be removed.
    """
    inputs = moved(first_sample(example), device_of(net))
    try:
        channels = _traced(net, inputs, layers).channels(net)
    except Exception as error:  # whatever a net may do that operations cannot be followed through
        raise UserError(
            "whole filters cannot be pruned in this net, because following its "
            f"operations failed ({one_line(error)}); methods that prune weights can"
        ) from None
    channels = _sound(net, channels, inputs)
    if not channels.number:
        raise UserError(
            "this net has no filter that could be removed as a whole: it has no linear "
            "or convolutional modules, or what their filters compute is an output, or "
            "is mixed with others before it is read, by a normalisation, attention or "
            "groups for instance; methods that prune weights can prune it"
        )
    return channels


def _sound(net: nn.Module, channels: Channels, inputs: Any) -> Channels:
    """The channels of groups of at least two that have no influence that was not seen."""
    influence = Influence(net, inputs)

    def sound(groups: list[int]) -> list[int]:
        if not influence.leaking(channels.only(groups)):
            return groups
        middle = len(groups) // 2
        return sound(groups[:middle]) + sound(groups[middle:]) if middle else []

    groups = numpy.flatnonzero(channels.sizes > 1).tolist()
    kept = sound(groups)
    channels = channels.only(kept)
    return channels.only([]) if kept != groups and influence.leaking(channels) else channels


@torch.no_grad()
def _traced(net: nn.Module, inputs: Any, layers: Container[str] | None) -> Trace:
    """The labels of a net's layers after a run."""
    trace = Trace(net, layers)
    with evaluating(net), trace.watching(net), trace.following:
        output = call(net, inputs)
    for tensor in tensors(output):
        labels = trace.following.of(tensor)
        if labels is not None:
            trace.labels.fix(labels)
    trace.fix_elsewhere()
    return trace
