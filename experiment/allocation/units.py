"""Units: the sets of weights, or of channels, that are sampled each on its own.

Two kinds of units have the same mathematics: the positive and the negative weights of each neuron
or filter (SiPP), and the channels of each group (PFP). The items of all units, weights or channels,
are numbered consecutively; all arrays over items follow that order.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property

import numpy
import torch

from experiment.nets.layers import PrunableLayer
from experiment.sensitivity.constants import C

ITEMS_AT_ONCE = 2**18  # of a block, in the parts that are computed with one after the other


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
class Table:
    """The items of a block, with a row per unit and a column for each of its items."""

    units: slice  # of the block
    items: slice
    num_rows: int
    num_columns: int
    second: numpy.ndarray  # [items of the block]: as in `Units`

    @cached_property
    def row(self) -> numpy.ndarray:
        """The unit of each item of the block [items of the block], counted from its first one."""
        second = self.second.reshape(-1, self.num_columns)
        units_per_row = self.num_rows // len(second)
        return (units_per_row * numpy.arange(len(second))[:, None] + second).reshape(-1)

    @cached_property
    def entry(self) -> numpy.ndarray:
        """The index [items of the block] of each item in the table, flattened."""
        column = numpy.arange(self.num_columns)
        return (self.row.reshape(-1, self.num_columns) * self.num_columns + column).reshape(-1)

    @property
    def parts(self) -> Iterator["Table"]:
        """The table in pieces of consecutive units, so that computing with one takes little."""
        rows = len(self.second) // self.num_columns
        units_per_row = self.num_rows // rows
        height = max(1, ITEMS_AT_ONCE // self.num_columns)
        for start in range(0, rows, height):
            stop = min(start + height, rows)
            first_unit = self.units.start + start * units_per_row
            first_item = self.items.start + start * self.num_columns
            num_units = (stop - start) * units_per_row
            num_items = (stop - start) * self.num_columns
            yield Table(
                slice(first_unit, first_unit + num_units),
                slice(first_item, first_item + num_items),
                num_units,
                self.num_columns,
                self.second[start * self.num_columns : stop * self.num_columns],
            )

    def by_unit(self, some: numpy.ndarray) -> numpy.ndarray:
        """The indices in the block of some of its items, one unit after the other."""
        first = numpy.flatnonzero(some & ~self.second)
        return numpy.concatenate([first, numpy.flatnonzero(some & self.second)])

    def spread(self, values: numpy.ndarray, *, empty: float) -> numpy.ndarray:
        """A value of each item of the block as the table; `empty` where it holds no item."""
        table = numpy.full(self.num_rows * self.num_columns, empty)
        table[self.entry] = values
        return table.reshape(self.num_rows, self.num_columns)

    def gather(self, table: numpy.ndarray) -> numpy.ndarray:
        """The inverse: the values of the block's items."""
        return table.reshape(-1).take(self.entry)


@dataclass(frozen=True)
class Units:
    """Importances of items, grouped by unit."""

    importance: numpy.ndarray  # [items] >= 0: sensitivities, or what takes their place
    second: numpy.ndarray  # [items] bool: of two units that share their columns, the second one's
    blocks: list[Block]
    delta: float  # failure probability of the certificates

    def with_importance(self, importance: numpy.ndarray) -> "Units":
        """The same units with another importance of their items."""
        return replace(self, importance=importance)

    @property
    def tables(self) -> Iterator[Table]:
        """The blocks as tables, one after the other: those of all of them would fill memory."""
        first_unit = 0
        first_item = 0
        for block in self.blocks:
            units = slice(first_unit, first_unit + block.num_units)
            items = slice(first_item, first_item + block.num_items)
            yield Table(units, items, block.num_units, block.num_columns, self.second[items])
            first_unit += block.num_units
            first_item += block.num_items

    @cached_property
    def num_units(self) -> int:
        return sum(block.num_units for block in self.blocks)

    @property
    def unit(self) -> numpy.ndarray:
        """The unit of each item [items]."""
        return self.by_item(lambda table: table.units.start + table.row)

    def by_item(self, values: Callable[[Table], numpy.ndarray]) -> numpy.ndarray:
        """What a function gives for the items of each part of a block, as one array [items].

        Threads share the parts, of which none depends on another.
        """
        return numpy.concatenate(self._by_part(values))

    def by_unit(self, values: Callable[[Table], numpy.ndarray]) -> numpy.ndarray:
        """The same for a function that gives something for the units of each part [units]."""
        return numpy.concatenate(self._by_part(values))

    def _by_part(self, values: Callable[[Table], numpy.ndarray]) -> list[numpy.ndarray]:
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            return list(pool.map(values, (part for table in self.tables for part in table.parts)))

    def sum(self, values: numpy.ndarray) -> numpy.ndarray:
        """Sum of a value over the items of each unit."""
        return self.by_unit(
            lambda table: numpy.bincount(table.row, values[table.items], table.num_rows)
        )

    @cached_property
    def total(self) -> numpy.ndarray:
        """T, the sum of the importances of a unit."""
        return self.sum(self.importance)

    @cached_property
    def capacity(self) -> numpy.ndarray:
        """n, the number of items of positive importance."""
        return self.sum(self.importance > 0)

    @property
    def probability(self) -> numpy.ndarray:
        """p_j = s_j / T of each item [items]; 0 where T is."""
        return self.by_item(self.probability_in)

    def probability_in(self, table: Table) -> numpy.ndarray:
        """The same for the items of a block."""
        total = self.total[table.units][table.row]
        importance = self.importance[table.items]
        return numpy.divide(importance, total, out=numpy.zeros_like(total), where=total > 0)

    @cached_property
    def error_weight(self) -> numpy.ndarray:
        """l of each unit."""
        return self._repeated([block.error_weight for block in self.blocks])

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
        return 2 * C * self.total * self._repeated(logarithms) / 3

    @cached_property
    def rank(self) -> numpy.ndarray:
        """Rank of each item in its unit by falling importance, from 0; ties go by index."""
        return self.by_item(lambda table: _ranks(self.importance[table.items], table))

    def _repeated(self, values: list[float]) -> numpy.ndarray:
        return numpy.repeat(values, [block.num_units for block in self.blocks])


def _ranks(importance: numpy.ndarray, table: Table) -> numpy.ndarray:
    """The rank of each item of a block in its unit, from 0."""
    shape = (-1, table.num_columns)
    order = numpy.argsort(-importance.reshape(shape), axis=1, kind="stable")
    second = numpy.take_along_axis(table.second.reshape(shape), order, axis=1)
    in_unit = numpy.where(second, numpy.cumsum(second, axis=1), numpy.cumsum(~second, axis=1)) - 1
    rank = numpy.empty(order.shape, dtype=numpy.int32)
    numpy.put_along_axis(rank, order, in_unit, axis=1)
    return rank.reshape(-1)


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
    blocks = [
        Block(
            num_units=2 * layer.shape[0],
            num_columns=layer.shape[1:].numel(),
            num_items=layer.shape.numel(),
            patches=layer.num_patches,
            kernel_size=layer.shape[2:].numel(),
            error_weight=1 / layer.shape[0],
        )
        for layer in layers
    ]
    return Units(importance, negative, blocks, delta)


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
    return Units(importance, numpy.zeros(len(importance), dtype=bool), blocks, delta)
