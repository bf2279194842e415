"""Finding the channels of a net, coupled by additions, concatenations, shuffles and flattening.

The net runs once on one sample, while each row of a layer's weight is followed to the columns of
the weights that read what it makes. Channels cannot be removed if they
- are outputs of the net, such as its classes;
- pass a convolution with groups that is not depthwise: removing one would leave the groups unequal;
- pass LayerNorm, GroupNorm, attention, or any other operation that may mix them with others;
- meet a layer of another kind with parameters, such as a transposed convolution, or a parameter of
  their own;
- are made or read by a weight that several modules share, or that is used outside of its module;
- are alone in their group, of which one always stays;
- prove to have an influence that was not found.
"""

from collections.abc import Container
from typing import Any

import numpy
from torch import nn

from experiment.channels.channels import Channels
from experiment.channels.influence import Influence
from experiment.channels.trace import Trace
from experiment.core.errors import UserError, one_line
from experiment.nets.running import device_of, first_sample, run_in_eval_mode
from experiment.nets.tensors import moved, tensors


def find_channels(net: nn.Module, example: Any, layers: Container[str] | None = None) -> Channels:
    """The removable channels of a net.

    Args:
        example: one batch for the net, of which the first sample is used.
        layers: the names of the linear and convolutional modules whose weights can be pruned; None
            for all.

    Raises:
        UserError: if the net cannot be followed, or no channel of it can be removed.
    """
    inputs = moved(first_sample(example), device_of(net))
    try:
        channels = _traced(net, inputs, layers).channels(net)
    except Exception as error:  # a net may do anything, also what cannot be followed
        cause = error.__cause__ or error
        raise UserError(
            "whole filters cannot be pruned in this net, because following its "
            f"operations failed ({one_line(cause)}); methods that prune weights can"
        ) from None
    channels = _without_influence(net, channels, inputs)
    if not channels.num_channels:
        raise UserError(
            "this net has no filter that could be removed as a whole: it has no linear "
            "or convolutional modules, or what their filters compute is an output, or "
            "is mixed with others before it is read, by a normalisation, attention or "
            "groups for instance; methods that prune weights can prune it"
        )
    return channels


def _without_influence(net: nn.Module, channels: Channels, inputs: Any) -> Channels:
    """The channels, without groups of one and without those with an influence that was missed."""
    influence = Influence(net, inputs)

    def sound(groups: list[int]) -> list[int]:
        if not influence.leaking(channels.only(groups)):
            return groups
        middle = len(groups) // 2
        if not middle:
            return []
        return sound(groups[:middle]) + sound(groups[middle:])

    groups = numpy.flatnonzero(channels.sizes > 1).tolist()
    kept = sound(groups)
    channels = channels.only(kept)
    if kept != groups and influence.leaking(channels):
        return channels.only([])
    return channels


def _traced(net: nn.Module, inputs: Any, layers: Container[str] | None) -> Trace:
    """The labels of a net's layers after a run."""
    trace = Trace(net, layers)
    output = run_in_eval_mode(net, (inputs, None), *trace.hooks(net), trace.following)
    for tensor in tensors(output):
        labels = trace.following.labels_or_none(tensor)
        if labels is not None:
            trace.labels.fix(labels)
    trace.fix_elsewhere()
    return trace
