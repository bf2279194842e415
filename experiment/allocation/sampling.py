"""Drawing the items of units with replacement: how many draws, which items they find, how often.

Which items N draws find is decided by one fixed stream of random numbers for every N: the first
appearances of a unit's items are simulated once, in order, and N draws find those that appear by
then. So the items found only grow with N, and a search for a size is not disturbed by noise. How
often each is drawn is decided at the end, for the N that was chosen, from the exact distribution
given the first appearances. Together the counts of a unit are multinomial(N, p).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy

from experiment.allocation.units import Units

NEWTON_STEPS = 100


def draws_needed(units: Units, kept: numpy.ndarray) -> numpy.ndarray:
    """The smallest N [units] whose expected number of different items is at least `kept` [units].

    The expectation is sum_j 1 - (1 - p_j)^N. It is concave in N, so Newton's method climbs to the
    solution from below. `kept` must be less than the capacity.
    """
    some = (kept > 0)[units.unit] & (units.probability > 0)
    unit = units.unit[some]
    with numpy.errstate(divide="ignore"):  # p = 1: one draw finds the only item
        log_missing = numpy.log1p(-units.probability[some])
    log_base = numpy.maximum(log_missing, -1e300)
    draws = numpy.maximum(kept, 0.0)
    for _ in range(NEWTON_STEPS):
        with numpy.errstate(invalid="ignore"):
            missing = numpy.exp(draws[unit] * log_missing)
        found = numpy.bincount(unit, 1 - missing, units.num_units)
        gain = numpy.bincount(unit, -missing * log_base, units.num_units)
        step = numpy.divide(
            kept - found, gain, out=numpy.zeros(units.num_units), where=(gain > 0) & (kept > 0)
        )
        draws = draws + numpy.maximum(step, 0)
        if (step <= 1e-9 * draws).all():
            break
    return numpy.ceil(draws * (1 - 1e-12) - 1e-9)


def first_appearances(
    units: Units, random: numpy.random.Generator, *, unused_rows: int = 0
) -> numpy.ndarray:
    """The draw, counted from 1, in which each item appears first [items].

    It is infinite for items of importance 0. Items appear in the order of an exponential race with
    rates p_j; between two appearances the number of draws is geometric with the mass of the items
    not yet seen.

    `unused_rows` more rows of random numbers are drawn for each block and thrown away: all they do
    is move the stream on.
    """
    result = numpy.empty(len(units.unit))
    for table in _tables(units):
        shape = (table.num_rows + unused_rows, table.num_columns)
        exponential = random.exponential(size=shape)[: table.num_rows]
        uniform = 1 - random.random(size=shape)[: table.num_rows]  # in (0, 1]
        probability = table.spread(units.probability, empty=0.0)
        result[table.items] = table.gather(_appearances(probability, exponential, uniform))
    return result


def _appearances(
    probability: numpy.ndarray, exponential: numpy.ndarray, uniform: numpy.ndarray
) -> numpy.ndarray:
    """First appearances from random numbers of both kinds, all [units, columns]."""
    race = numpy.divide(
        exponential,
        probability,
        out=numpy.full_like(exponential, numpy.inf),
        where=probability > 0,
    )
    order = numpy.argsort(race, axis=1, kind="stable")
    ordered = numpy.take_along_axis(probability, order, axis=1)
    unseen = numpy.cumsum(ordered[:, ::-1], axis=1)[:, ::-1]  # mass before the k-th appears
    unseen = numpy.minimum(unseen, 1.0)
    unseen[:, 0] = 1.0
    with numpy.errstate(divide="ignore", invalid="ignore"):
        waits = 1 + numpy.floor(numpy.log(uniform) / numpy.log1p(-unseen))
    waits = numpy.where(ordered > 0, numpy.where(unseen < 1, waits, 1), numpy.inf)
    first = numpy.empty_like(waits)
    numpy.put_along_axis(first, order, numpy.cumsum(waits, axis=1), axis=1)
    return first


def draw_counts(
    units: Units, first: numpy.ndarray, draws: numpy.ndarray, random: numpy.random.Generator
) -> numpy.ndarray:
    """How often each item is drawn [items] in `draws` [units] draws, given its first appearance."""
    result = numpy.empty(len(units.unit), dtype=numpy.int64)
    for table in _tables(units):
        drawn = _counts(
            table.spread(units.probability, empty=0.0),
            table.spread(first, empty=numpy.inf),
            draws[table.units, None],
            random,
        )
        result[table.items] = table.gather(drawn)
    return result


def _counts(
    probability: numpy.ndarray,
    first: numpy.ndarray,
    draws: numpy.ndarray,
    random: numpy.random.Generator,
) -> numpy.ndarray:
    """Counts from probabilities and first appearances, all [units, columns]; `draws` [units, 1].

    Between the k-th and the next appearance all draws hit the k items seen. Going backwards, each
    of them is the k-th item with probability p_k / (p_1 + ... + p_k); the others join those of the
    interval before.
    """
    order = numpy.argsort(first, axis=1, kind="stable")
    appeared = numpy.take_along_axis(first, order, axis=1)
    ordered = numpy.take_along_axis(probability, order, axis=1)
    seen_mass = numpy.cumsum(ordered, axis=1)
    share = numpy.divide(ordered, seen_mass, out=numpy.zeros_like(ordered), where=ordered > 0)
    never = numpy.full((len(first), 1), numpy.inf)
    next_new = numpy.concatenate([appeared[:, 1:], never], axis=1)
    found = appeared <= draws
    repeats = numpy.where(found, numpy.minimum(next_new, draws + 1) - appeared - 1, 0)
    repeats = repeats.astype(numpy.int64)
    counts = found.astype(numpy.int64)
    pool = numpy.zeros(len(first), dtype=numpy.int64)
    for k in reversed(range(int(found.sum(1).max(initial=0)))):
        pool = pool + repeats[:, k]
        hits = random.binomial(pool, share[:, k])
        counts[:, k] += hits
        pool = pool - hits
    by_column = numpy.empty_like(counts)
    numpy.put_along_axis(by_column, order, counts, axis=1)
    return by_column


@dataclass(frozen=True)
class _Table:
    """The rows of a block's units: which items they hold, and where."""

    units: slice
    items: slice
    num_rows: int
    num_columns: int
    entry: numpy.ndarray  # [items of the block]: index into the flattened table

    def spread(self, values: numpy.ndarray, *, empty: float) -> numpy.ndarray:
        """A value of all items [items] as the table; `empty` where it holds no item."""
        table = numpy.full(self.num_rows * self.num_columns, empty)
        table[self.entry] = values[self.items]
        return table.reshape(self.num_rows, self.num_columns)

    def gather(self, table: numpy.ndarray) -> numpy.ndarray:
        """The inverse: the values of the block's items."""
        return table.reshape(-1).take(self.entry)


def _tables(units: Units) -> Iterator[_Table]:
    first_unit = 0
    first_item = 0
    for block in units.blocks:
        own_units = slice(first_unit, first_unit + block.num_units)
        items = slice(first_item, first_item + block.num_items)
        yield _Table(own_units, items, block.num_units, block.num_columns, units.entry[items])
        first_unit += block.num_units
        first_item += block.num_items
