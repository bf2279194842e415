"""Units: the sets of weights, or of channels, that are sampled each on its own.

Two kinds of units have the same mathematics: the positive and the negative weights of each neuron
or filter (SiPP), and the channels of each group (PFP). The items of all units, weights or channels,
are numbered consecutively; all arrays over items follow that order.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy

from experiment.nets.layers import PrunableLayer
from experiment.sensitivity.constants import C


@dataclass(frozen=True)
class Block:
    """Units that are alike: those of one layer, or the one of a group of channels.

    A block is computed with as a table of one row per unit, in which each item has an entry; the
    other entries are empty.
    """

    num_units: int
    num_columns: int
    num_items: int  # items of a block follow each other
    patches: int  # P, output positions of a sample; 1 for a linear layer
    kernel_size: int  # kappa, spatial; 1 for a linear layer
    error_weight: float = 1.0  # l, the weight of each unit's error in the allocation of a budget


@dataclass(frozen=True)
class Units:
    """Importances of items, grouped by unit."""

    importance: numpy.ndarray  # [items] float64 >= 0: sensitivities, or what takes their place
    unit: numpy.ndarray  # [items]: the unit of each
    entry: numpy.ndarray  # [items]: the index of each in the table of its block, flattened
    blocks: list[Block]
    delta: float  # failure probability of the certificates

    def with_importance(self, importance: numpy.ndarray) -> "Units":
        """The same units with another importance of their items."""
        return replace(self, importance=importance)

    @cached_property
    def num_units(self) -> int:
        return sum(block.num_units for block in self.blocks)

    def sum(self, values: numpy.ndarray) -> numpy.ndarray:
        """Sum of a value over the items of each unit."""
        return numpy.bincount(self.unit, values, self.num_units)

    @cached_property
    def total(self) -> numpy.ndarray:
        """T, the sum of the importances of a unit."""
        return self.sum(self.importance)

    @cached_property
    def capacity(self) -> numpy.ndarray:
        """n, the number of items of positive importance."""
        return self.sum(self.importance > 0)

    @cached_property
    def probability(self) -> numpy.ndarray:
        """p_j = s_j / T; 0 where T is."""
        total = self.total[self.unit]
        return numpy.divide(self.importance, total, out=numpy.zeros_like(total), where=total > 0)

    @cached_property
    def error_weight(self) -> numpy.ndarray:
        """l of each unit."""
        return self._by_block([block.error_weight for block in self.blocks])

    @cached_property
    def alpha(self) -> numpy.ndarray:
        """alpha = 2 C T ln(8 (P + 1) kappa / delta) of each unit, after the paper's code."""
        return 3 * self.allocation_scale

    @cached_property
    def allocation_scale(self) -> numpy.ndarray:
        """alpha / 3 of each unit.

        Its logarithm is at least 0.01: a delta so large that nothing is claimed has budgets too.
        """
        logarithms = [
            max(0.01, math.log(8 * (block.patches + 1) * block.kernel_size) - math.log(self.delta))
            for block in self.blocks
        ]
        return 2 * C * self.total * self._by_block(logarithms) / 3

    @cached_property
    def rank(self) -> numpy.ndarray:
        """Rank of each item in its unit by falling importance, from 0; ties go by index."""
        order = numpy.lexsort((-self.importance, self.unit))  # lexsort is stable
        sizes = numpy.bincount(self.unit, minlength=self.num_units)
        first = numpy.cumsum(sizes) - sizes  # position in the order of each unit's first item
        rank = numpy.empty(len(order), dtype=numpy.int64)
        rank[order] = numpy.arange(len(order)) - first[self.unit[order]]
        return rank

    def _by_block(self, values: list[float]) -> numpy.ndarray:
        return numpy.repeat(values, [block.num_units for block in self.blocks])


def signed_weights(
    importance: numpy.ndarray,
    negative: numpy.ndarray,
    layers: Iterable[PrunableLayer],
    delta: float,
) -> Units:
    """The positive and the negative weights of each output (neuron or filter) of some layers.

    The units of output i, the outputs counted through all layers, are 2 i (positive weights) and
    2 i + 1 (negative). A row of a layer's table has a column for each weight of an output, and is
    empty where the weight has the other sign.

    Args:
        importance: of each weight [weights], layer after layer, in the order of `nets.flat`.
        negative: whether each weight is [weights].
        layers: what the weights belong to.
        delta: failure probability of the certificates.
    """
    blocks = []
    units = []
    entries = []
    first_item = 0
    first_unit = 0
    for layer in layers:
        filters = layer.shape[0]
        weights = layer.shape[1:].numel()
        blocks.append(
            Block(
                num_units=2 * filters,
                num_columns=weights,
                num_items=filters * weights,
                patches=layer.num_patches,
                kernel_size=layer.shape[2:].numel(),
                error_weight=1 / filters,
            )
        )
        items = slice(first_item, first_item + filters * weights)
        row = 2 * numpy.arange(filters)[:, None] + negative[items].reshape(filters, weights)
        units.append(row.reshape(-1) + first_unit)
        entries.append((row * weights + numpy.arange(weights)).reshape(-1))
        first_item += filters * weights
        first_unit += 2 * filters
    return Units(importance, numpy.concatenate(units), numpy.concatenate(entries), blocks, delta)


def channel_groups(
    importance: numpy.ndarray,
    sizes: Iterable[int],
    patches: Iterable[int],
    kernel_sizes: Iterable[int],
    delta: float,
) -> Units:
    """The channels of each group.

    Args:
        importance: of each channel [channels], group after group.
        sizes: how many channels each group has.
        patches, kernel_sizes: P and kappa of each group, which enter its alpha.
        delta: failure probability of the certificates.
    """
    blocks = [
        Block(
            num_units=1,
            num_columns=int(size),
            num_items=int(size),
            patches=int(patches_of_group),
            kernel_size=int(kernel_size),
        )
        for size, patches_of_group, kernel_size in zip(sizes, patches, kernel_sizes)
    ]
    entries = [numpy.arange(block.num_columns) for block in blocks]
    group = numpy.repeat(numpy.arange(len(blocks)), [block.num_items for block in blocks])
    return Units(importance, group, numpy.concatenate(entries), blocks, delta)
