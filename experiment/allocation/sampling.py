"""Drawing the items of units with replacement: how many draws, which items they find, how often.

Which items N draws find is decided by one fixed stream of random numbers for every N: the first
appearances of a unit's items are simulated once, in order, and N draws find those that appear by
then. So the items found only grow with N, and a search for a size is not disturbed by noise. How
often each is drawn is decided at the end, for the N that was chosen, from the exact distribution
given the first appearances. Together the counts of a unit are multinomial(N, p).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy

from experiment.allocation.units import Table, Units

NEWTON_STEPS = 100
LARGEST = 2**32 - 1  # of uint32


def draws_needed(units: Units, kept: numpy.ndarray) -> numpy.ndarray:
    """The smallest N [units] whose expected number of different items is at least `kept` [units].

    The expectation is sum_j 1 - (1 - p_j)^N. It is concave in N, so Newton's method climbs to the
    solution from below. `kept` must be less than the capacity.
    """
    draws = units.by_unit(lambda table: _draws_of_block(units, table, kept))
    return numpy.ceil(draws * (1 - 1e-12) - 1e-9)


def _draws_of_block(units: Units, table: Table, kept: numpy.ndarray) -> numpy.ndarray:
    """The same for the units of a block, not rounded. Units that have converged are left out."""
    draws = numpy.zeros(table.num_rows)
    wanted = kept[table.units]
    probability = units.probability_in(table)
    items = table.by_unit((wanted > 0)[table.row] & (probability > 0))
    if not len(items):
        return draws
    with numpy.errstate(divide="ignore"):  # p = 1: one draw finds the only item
        log_missing = numpy.log1p(-probability[items])
    row = table.row[items]
    draws = _fewest_draws(wanted, units.capacity[table.units])
    for _ in range(NEWTON_STEPS):
        first = numpy.flatnonzero(numpy.diff(row, prepend=-1))  # item of each unit that is left
        active = row[first]
        step = _newton_step(log_missing, first, draws[active], wanted[active])
        draws[active] += step
        unfinished = step > 1e-9 * draws[active]
        if not unfinished.any():
            break
        lengths = numpy.diff(first, append=len(row))
        left = numpy.repeat(unfinished, lengths)
        row = row[left]
        log_missing = log_missing[left]
    return draws


def _newton_step(
    log_missing: numpy.ndarray, first: numpy.ndarray, draws: numpy.ndarray, kept: numpy.ndarray
) -> numpy.ndarray:
    """By how much the draws of each unit [units] grow.

    Args:
        log_missing: ln(1 - p) of the items [items] of one unit after the other.
        first: the index of each unit's first item [units].
        draws, kept: N so far and the number of items sought, of each unit [units].
    """
    lengths = numpy.diff(first, append=len(log_missing))
    with numpy.errstate(invalid="ignore"):
        missing = numpy.exp(numpy.repeat(draws, lengths) * log_missing)
    found = numpy.add.reduceat(1 - missing, first)
    gain = -numpy.add.reduceat(missing * numpy.maximum(log_missing, -1e300), first)
    step = numpy.divide(kept - found, gain, out=numpy.zeros(len(kept)), where=gain > 0)
    return numpy.maximum(step, 0)


def _fewest_draws(kept: numpy.ndarray, capacity: numpy.ndarray) -> numpy.ndarray:
    """A number of draws [units] below the one sought: that of n items of the same probability.

    With them N draws find n (1 - (1 - 1 / n)^N) different items, the most that they can find.
    """
    several = (capacity > 1) & (kept < capacity)
    share = numpy.divide(kept, capacity, out=numpy.zeros(len(kept)), where=several)
    inverse = numpy.divide(1, capacity, out=numpy.zeros(len(kept)), where=several)
    equal = numpy.divide(
        numpy.log1p(-share), numpy.log1p(-inverse), out=numpy.zeros(len(kept)), where=several
    )
    return numpy.maximum(kept, equal * (1 - 1e-9))


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
    return numpy.concatenate(list(appearances_by_block(units, random, unused_rows=unused_rows)))


def appearances_by_block(
    units: Units, random: numpy.random.Generator, *, unused_rows: int = 0
) -> Iterator[numpy.ndarray]:
    """The same, one block after the other."""
    for table in units.tables:
        shape = (table.num_rows + unused_rows, table.num_columns)
        numbers = random.exponential(size=shape)
        first = numpy.empty(len(table.second))
        for part in table.parts:
            probability = part.spread(units.probability_in(part), empty=0.0)
            uniform = 1 - random.random(size=probability.shape)  # in (0, 1]
            exponential = numbers[_within(part.units, table.units)]
            first[_within(part.items, table.items)] = part.gather(
                _appearances(probability, exponential, uniform)
            )
        random.random(size=(unused_rows, table.num_columns))
        yield first


def _within(part: slice, whole: slice) -> slice:
    """A part, counted from the beginning of the whole."""
    return slice(part.start - whole.start, part.stop - whole.start)


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
    order = numpy.argsort(race, axis=1)
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


@dataclass(frozen=True)
class Appearances:
    """First appearances of items in four bytes each; those few that are too large lie aside."""

    small: numpy.ndarray  # [items], uint32; the largest number where it is larger, or infinite
    large: numpy.ndarray  # the larger ones that are finite
    positions: numpy.ndarray  # ascending, of those

    @classmethod
    def of(cls, blocks: Iterable[numpy.ndarray], num_items: int) -> "Appearances":
        """Those of all items, block after block in double precision; the blocks are changed."""
        small = numpy.empty(num_items, dtype=numpy.uint32)
        large = [numpy.empty(0)]
        positions = [numpy.empty(0, dtype=numpy.int64)]
        start = 0
        for first in blocks:
            too_large = numpy.flatnonzero((first >= LARGEST) & (first < numpy.inf))
            large.append(first[too_large])
            positions.append(start + too_large)
            small[start : start + len(first)] = numpy.minimum(first, LARGEST, out=first)
            start += len(first)
        return cls(small, numpy.concatenate(large), numpy.concatenate(positions))

    def __getitem__(self, items: slice) -> numpy.ndarray:
        """The first appearances of some items that follow each other, in double precision."""
        first = self.small[items].astype(float)
        first[first == LARGEST] = numpy.inf
        own = slice(*numpy.searchsorted(self.positions, [items.start, items.stop]))
        first[self.positions[own] - items.start] = self.large[own]
        return first


def draw_counts(
    units: Units, first: numpy.ndarray, draws: numpy.ndarray, random: numpy.random.Generator
) -> numpy.ndarray:
    """How often each item is drawn [items] in `draws` [units] draws, given its first appearance."""
    counts = counts_by_block(units, first, draws, random)
    return numpy.concatenate([of_block for _, of_block in counts])


def counts_by_block(
    units: Units,
    first: numpy.ndarray | Appearances,
    draws: numpy.ndarray,
    random: numpy.random.Generator,
) -> Iterator[tuple[Table, numpy.ndarray]]:
    """The same, one block after the other: counts of all items would fill memory."""
    for table in units.tables:
        yield table, _counts(units, table, first, draws, random)


def _counts(
    units: Units,
    table: Table,
    first: numpy.ndarray | Appearances,
    draws: numpy.ndarray,
    random: numpy.random.Generator,
) -> numpy.ndarray:
    """Counts of the items of a block, from their first appearances [items] and `draws` [units].

    Between the k-th and the next appearance all draws hit the k items seen. Going backwards, each
    of them is the k-th item with probability p_k / (p_1 + ... + p_k); the others join those of the
    interval before.
    """
    parts = [(part, _within(part.units, table.units)) for part in table.parts]
    most_found = max((_most_found(part, first, draws) for part, _ in parts), default=0)
    shape = (table.num_rows, most_found)
    order = numpy.empty(shape, dtype=numpy.int32)
    share = numpy.empty(shape)
    counts = numpy.empty(shape, dtype=numpy.int64)
    repeats = numpy.empty(shape, dtype=numpy.int64)
    for part, rows in parts:
        order[rows], share[rows], counts[rows], repeats[rows] = _intervals(
            part.spread(units.probability_in(part), empty=0.0),
            part.spread(first[part.items], empty=numpy.inf),
            draws[part.units, None],
            most_found,
        )
    pool = numpy.zeros(table.num_rows, dtype=numpy.int64)
    for k in reversed(range(most_found)):
        pool = pool + repeats[:, k]
        hits = random.binomial(pool, share[:, k])
        counts[:, k] += hits
        pool = pool - hits
    by_item = numpy.empty(len(table.second), dtype=numpy.int64)
    for part, rows in parts:
        by_column = numpy.zeros((part.num_rows, part.num_columns), dtype=numpy.int64)
        numpy.put_along_axis(by_column, order[rows], counts[rows], axis=1)
        by_item[_within(part.items, table.items)] = part.gather(by_column)
    return by_item


def _most_found(part: Table, first: numpy.ndarray | Appearances, draws: numpy.ndarray) -> int:
    """The largest number of items that the draws of any unit of a part find."""
    found = first[part.items] <= draws[part.units][part.row]
    return int(numpy.bincount(part.row[found], minlength=1).max())


def _intervals(
    probability: numpy.ndarray, first: numpy.ndarray, draws: numpy.ndarray, most_found: int
) -> tuple[numpy.ndarray, ...]:
    """What follows the k-th appearance in each unit, before the next: all [units, most_found].

    Which item it is; its share of the mass of the items seen; 1 if draws find it, else 0; and how
    many draws hit the items seen. Probabilities and first appearances are [units, columns]; `draws`
    [units, 1].
    """
    order = numpy.argsort(first, axis=1)[:, : most_found + 1]
    appeared = numpy.take_along_axis(first, order, axis=1)
    next_new = numpy.full((len(first), most_found), numpy.inf)
    next_new[:, : appeared.shape[1] - 1] = appeared[:, 1:]
    order = order[:, :most_found]
    appeared = appeared[:, :most_found]
    ordered = numpy.take_along_axis(probability, order, axis=1)
    seen_mass = numpy.cumsum(ordered, axis=1)
    share = numpy.divide(ordered, seen_mass, out=numpy.zeros_like(ordered), where=ordered > 0)
    found = appeared <= draws
    repeats = numpy.where(found, numpy.minimum(next_new, draws + 1) - appeared - 1, 0)
    return order, share, found, repeats
