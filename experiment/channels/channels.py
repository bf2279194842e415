"""The channels of a net that can be removed, and which parameters belong to each.

A channel is what one filter computes, with every filter that is added to it. It owns rows of the
weights of its producers, their biases and normalisation entries, and the columns of the weights
that read it. A group consists of the channels that the same layers produce.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy
import torch
from torch import Tensor

from experiment.nets.masks import Masks

NO_CHANNEL = -1


@dataclass(frozen=True)
class Channels:
    """Channels, numbered group by group; NO_CHANNEL marks what belongs to no removable one."""

    group: numpy.ndarray  # [channels], the group of each
    rows: dict[str, numpy.ndarray]  # by layer, the channel of each row of its weight
    columns: dict[str, numpy.ndarray]  # by layer, that of each column (dimension 1) of its weight
    vectors: dict[str, numpy.ndarray]  # by parameter, that of each entry of a bias or normalisation
    # By normalisation, with parameters or without, that of each entry that it normalises.
    normalised: dict[str, numpy.ndarray] = field(default_factory=dict)

    @cached_property
    def num_channels(self) -> int:
        return len(self.group)

    @cached_property
    def sizes(self) -> numpy.ndarray:
        """The number of channels in each group."""
        return numpy.bincount(self.group)

    @cached_property
    def groups(self) -> list[slice]:
        """The channels of each group."""
        ends = numpy.cumsum(self.sizes)
        return [slice(end - size, end) for size, end in zip(self.sizes, ends)]

    def only(self, groups: list[int]) -> "Channels":
        """The channels of these groups, renumbered; the others count as not removable."""
        stays = numpy.isin(self.group, groups)
        new_channel = numpy.where(stays, numpy.cumsum(stays) - 1, NO_CHANNEL)

        def renumbered(channels: dict[str, numpy.ndarray]) -> dict[str, numpy.ndarray]:
            return with_channels(
                {
                    name: spread(new_channel, channel, len(channel), NO_CHANNEL)
                    for name, channel in channels.items()
                }
            )

        _, new_group = numpy.unique(self.group[stays], return_inverse=True)
        return Channels(
            group=new_group,
            rows=renumbered(self.rows),
            columns=renumbered(self.columns),
            vectors=renumbered(self.vectors),
            normalised=renumbered(self.normalised),
        )

    def alive(self, masks: dict[str, Tensor]) -> numpy.ndarray:
        """Which channels [channels] the masks of layers' weights have left.

        A channel is left if a weight that makes it is left and, unless nothing ever reads it, a
        weight that reads it is left as well.
        """
        return self.made(masks) & self.read(masks)

    def made(self, masks: Masks, vectors: Masks | None = None) -> numpy.ndarray:
        """Which channels [channels] a weight makes that the masks of layers' weights have left.

        With the masks of biases and normalisations, one of their entries will do as well.
        """
        is_made = numpy.zeros(self.num_channels, dtype=bool)
        for name, channel in self.rows.items():
            _mark(is_made, channel, masks[name].flatten(1).any(1))
        for name, mask in (vectors or {}).items():
            _mark(is_made, self.vectors[name], mask)
        return is_made

    def read(self, masks: Masks) -> numpy.ndarray:
        """Which channels [channels] a weight reads that the masks have left, or nothing ever."""
        is_read = numpy.zeros(self.num_channels, dtype=bool)
        has_reader = numpy.zeros(self.num_channels, dtype=bool)
        for name, channel in self.columns.items():
            _mark(is_read, channel, masks[name].transpose(0, 1).flatten(1).any(1))
            _mark(has_reader, channel, torch.ones(len(channel), dtype=torch.bool))
        return is_read | ~has_reader

    def weight_masks(self, weights: dict[str, Tensor], kept: numpy.ndarray) -> dict[str, Tensor]:
        """By layer, which of its weights belong to kept channels [channels] only."""
        result = {}
        for name, weight in weights.items():
            rows = spread(kept, self.rows.get(name), len(weight), True)
            columns = spread(kept, self.columns.get(name), weight.shape[1], True)
            shape = (len(weight), weight.shape[1], *[1] * (weight.dim() - 2))
            mask = torch.from_numpy(rows[:, None] & columns[None]).reshape(shape)
            result[name] = mask.expand(weight.shape).to(weight.device)
        return result

    def vector_masks(self, masks: Masks, kept: numpy.ndarray) -> Masks:
        """The masks of biases and normalisations without the entries of channels not kept."""
        result = {}
        for name, channel in self.vectors.items():
            entries = torch.from_numpy(spread(kept, channel, len(channel), True))
            result[name] = masks[name] & entries.to(masks[name].device)
        return result


def spread(
    values: numpy.ndarray, channel: numpy.ndarray | None, length: int, default: float | bool
) -> numpy.ndarray:
    """The value of each row or column from those of the channels; the default without a channel."""
    if channel is None:
        return numpy.full(length, default)
    return numpy.where(channel >= 0, values[channel], default)


def with_channels(by_name: dict[str, numpy.ndarray]) -> dict[str, numpy.ndarray]:
    """The entries in which something belongs to a channel."""
    return {name: channel for name, channel in by_name.items() if (channel >= 0).any()}


def _mark(marked: numpy.ndarray, channel: numpy.ndarray, chosen: Tensor) -> None:
    """Mark the channels of the chosen rows or columns."""
    channels = channel[chosen.cpu().numpy()]
    marked[channels[channels >= 0]] = True


class WeightCount:
    """How many weights are left if only some channels are kept, without building a mask."""

    def __init__(self, channels: Channels, candidates: dict[str, Tensor]):
        """`candidates`: by layer, which weights may be kept."""
        self.channels = channels
        self.matrices: dict[str, numpy.ndarray] = {}  # [rows, columns]
        for name, mask in candidates.items():
            counts = mask.flatten(2).sum(2) if mask.dim() > 2 else mask
            self.matrices[name] = counts.double().cpu().numpy()

    def __call__(self, kept: numpy.ndarray) -> int:
        total = 0.0
        for name, matrix in self.matrices.items():
            rows = spread(kept, self.channels.rows.get(name), matrix.shape[0], True)
            columns = spread(kept, self.channels.columns.get(name), matrix.shape[1], True)
            total += float(rows @ matrix @ columns)
        return round(total)
