"""How far a net can be pruned by whole filters."""

from dataclasses import dataclass

import numpy
from torch import nn

from experiment.channels.channels import Channels
from experiment.masks import Masks, size


@dataclass(frozen=True)
class Extent:
    """Numbers of parameters that are not masked away."""

    removable: int  # those that belong to a channel that can be removed
    least: int  # those that stay when only one channel of each group does, the smallest


def extent(channels: Channels, net: nn.Module, masks: Masks) -> Extent:
    """What methods that remove filters can remove of a net, and what they must leave.

    `masks` are those of all its parameters.
    """
    alive = channels.alive({layer: masks[_weight_name(layer)]
                            for layer in (*channels.rows, *channels.columns)})
    smallest, sizes = numpy.zeros(channels.number, dtype=bool), _sizes(channels, masks)
    for part in channels.groups:
        if alive[part].any():
            own = numpy.where(alive[part], sizes[part], numpy.inf)
            smallest[part.start + numpy.argmin(own)] = True
    none = numpy.zeros(channels.number, dtype=bool)
    removable = size(masks) - _left(channels, net, masks, none)
    return Extent(removable, _left(channels, net, masks, smallest))


def _weight_name(layer: str) -> str:
    return f"{layer}.weight" if layer else "weight"


def _left(channels: Channels, net: nn.Module, masks: Masks, kept: numpy.ndarray) -> int:
    """How many parameters stay with the channels that are kept [channels]."""
    weights = channels.weight_masks(net, list({**channels.rows, **channels.columns}), kept)
    left = masks | channels.vector_masks(masks, kept)
    left |= {name: mask & masks[name] for name, mask in
             ((_weight_name(layer), mask) for layer, mask in weights.items())}
    return size(left)


def _sizes(channels: Channels, masks: Masks) -> numpy.ndarray:
    """How many parameters belong to each channel [channels]."""
    sizes = numpy.zeros(channels.number)
    of_rows = {_weight_name(layer): channel for layer, channel in channels.rows.items()}
    of_columns = {_weight_name(layer): channel for layer, channel in channels.columns.items()}
    for dim, part in ((0, of_rows), (0, channels.vectors), (1, of_columns)):
        for name, channel in part.items():
            counts = masks[name].movedim(dim, 0).reshape(len(channel), -1).sum(1).cpu().numpy()
            numpy.add.at(sizes, channel[channel >= 0], counts[channel >= 0])
    return sizes
