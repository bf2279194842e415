"""The channels of a net that can be removed, and which parameters belong to each.

A channel is what one filter computes, with every filter that is added to it: it owns rows of the weights of its
producers, their biases and normalisation entries, and the columns of the weights that read it. A group is the channels
that the same layers produce.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy
import torch
from torch import Tensor

from experiment.nets.masks import Masks


@dataclass(frozen=True)
class Channels:
    """Channels are numbered group by group; -1 stands for what belongs to no removable channel."""

    group: numpy.ndarray  # [channels], the group of each
    rows: dict[str, numpy.ndarray]  # by layer, the channel of each row of its weight
    columns: dict[
        str, numpy.ndarray
    ]  # by layer, the channel of each column (dimension 1) of its weight
    vectors: dict[
        str, numpy.ndarray
    ]  # by parameter name, the channel of each entry of a bias or normalisation

    @cached_property
    def number(self) -> int:
        return len(self.group)

    @cached_property
    def sizes(self) -> numpy.ndarray:
        """Number of channels of each group."""
        return numpy.bincount(self.group)

    @cached_property
    def groups(self) -> list[slice]:
        """The channels of each group."""
        ends = numpy.cumsum(self.sizes)
        return [slice(end - size, end) for size, end in zip(self.sizes, ends)]

    def only(self, groups: list[int]) -> "Channels":
        """The channels of these groups, numbered anew; the others become part of what is not removable."""
        stays = numpy.isin(self.group, groups)
        number = numpy.where(stays, numpy.cumsum(stays) - 1, -1)

        def renumbered(channels: dict[str, numpy.ndarray]) -> dict[str, numpy.ndarray]:
            moved = {
                name: numpy.where(channel >= 0, number[channel], -1)
                for name, channel in channels.items()
            }
            return {name: channel for name, channel in moved.items() if (channel >= 0).any()}

        _, group = numpy.unique(self.group[stays], return_inverse=True)
        return Channels(
            group, renumbered(self.rows), renumbered(self.columns), renumbered(self.vectors)
        )

    def alive(self, masks: dict[str, Tensor]) -> numpy.ndarray:
        """The channels that the masks of layers' weights have left: with a weight that makes them and, if any could,
        one that reads them."""
        made, read, readers = (numpy.zeros(self.number, dtype=bool) for _ in range(3))
        for name, channel in self.rows.items():
            _mark(made, channel, masks[name].flatten(1).any(1))
        for name, channel in self.columns.items():
            _mark(read, channel, masks[name].transpose(0, 1).flatten(1).any(1))
            _mark(readers, channel, torch.ones(len(channel), dtype=torch.bool))
        return made & (read | ~readers)

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
        """The masks of biases and normalisations without the entries of channels that are not kept."""
        return {
            name: masks[name]
            & torch.from_numpy(spread(kept, channel, len(channel), True)).to(masks[name].device)
            for name, channel in self.vectors.items()
        }


def spread(
    values: numpy.ndarray, channel: numpy.ndarray | None, length: int, other: float | bool
) -> numpy.ndarray:
    """The value of each row or column from those of the channels; `other` where it belongs to none."""
    if channel is None:
        return numpy.full(length, other)
    return numpy.where(channel >= 0, values[channel], other)


def _mark(marked: numpy.ndarray, channel: numpy.ndarray, where: Tensor) -> None:
    chosen = channel[where.cpu().numpy()]
    marked[chosen[chosen >= 0]] = True


class WeightCount:
    """How many weights are left when only some channels are kept, without building a mask."""

    def __init__(self, channels: Channels, candidates: dict[str, Tensor]):
        """`candidates`: by layer, which weights may be kept."""
        self.channels = channels
        self.matrices = {
            name: mask.flatten(2).sum(2).double().cpu().numpy()
            if mask.dim() > 2
            else mask.double().cpu().numpy()
            for name, mask in candidates.items()
        }  # [rows, columns]

    def __call__(self, kept: numpy.ndarray) -> int:
        total = 0.0
        for name, matrix in self.matrices.items():
            rows = spread(kept, self.channels.rows.get(name), matrix.shape[0], True)
            columns = spread(kept, self.channels.columns.get(name), matrix.shape[1], True)
            total += float(rows @ matrix @ columns)
        return round(total)
