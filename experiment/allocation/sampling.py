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

from experiment.allocation.units import Table, Units

NEWTON_STEPS = 100
LARGEST = 2**32 - 1  # of uint32
ENTRIES_AT_ONCE = 2**18  # of a table


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
    result = numpy.empty(len(units.importance))
    for table in units.tables:
        shape = (table.num_rows + unused_rows, table.num_columns)
        numbers = random.exponential(size=shape)
        probability = table.spread(units.probability_in(table), empty=0.0)
        for rows in _row_blocks(*probability.shape):
            uniform = 1 - random.random(size=probability[rows].shape)  # in (0, 1]
            numbers[rows] = _appearances(probability[rows], numbers[rows], uniform)
        random.random(size=(unused_rows, table.num_columns))
        result[table.items] = table.gather(numbers[: table.num_rows])
    return result


def _row_blocks(num_rows: int, num_columns: int) -> list[slice]:
    """Rows of a table to compute with at a time, so that all that comes between stays small."""
    height = max(1, ENTRIES_AT_ONCE // num_columns)
    return [slice(start, min(start + height, num_rows)) for start in range(0, num_rows, height)]


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
    def of(cls, first: numpy.ndarray) -> "Appearances":
        """Those of an array [items] in double precision, which is changed."""
        positions = numpy.flatnonzero((first >= LARGEST) & (first < numpy.inf))
        large = first[positions]
        return cls(numpy.minimum(first, LARGEST, out=first).astype(numpy.uint32), large, positions)

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
        counts = _counts(
            table.spread(units.probability_in(table), empty=0.0),
            table.spread(first[table.items], empty=numpy.inf),
            draws[table.units, None],
            random,
        )
        yield table, table.gather(counts)


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
    most_found = int((first <= draws).sum(1).max(initial=0))
    intervals = [
        _intervals(probability[rows], first[rows], draws[rows], most_found)
        for rows in _row_blocks(*first.shape)
    ]
    order, share, counts, repeats = map(numpy.concatenate, zip(*intervals))
    pool = numpy.zeros(len(first), dtype=numpy.int64)
    for k in reversed(range(most_found)):
        pool = pool + repeats[:, k]
        hits = random.binomial(pool, share[:, k])
        counts[:, k] += hits
        pool = pool - hits
    by_column = numpy.zeros(first.shape, dtype=numpy.int64)
    numpy.put_along_axis(by_column, order, counts, axis=1)
    return by_column


def _intervals(
    probability: numpy.ndarray, first: numpy.ndarray, draws: numpy.ndarray, most_found: int
) -> tuple[numpy.ndarray, ...]:
    """What follows the k-th appearance in each unit, before the next: all [units, most_found].

    Which item it is; its share of the mass of the items seen; 1 if draws find it, else 0; and how
    many draws hit the items seen.
    """
    order = numpy.argsort(first, axis=1)
    appeared = numpy.take_along_axis(first, order[:, : most_found + 1], axis=1)
    next_new = numpy.full((len(first), most_found), numpy.inf)
    next_new[:, : appeared.shape[1] - 1] = appeared[:, 1:]
    order = order[:, :most_found].copy()  # not a view, which would hold all of it
    appeared = appeared[:, :most_found]
    ordered = numpy.take_along_axis(probability, order, axis=1)
    seen_mass = numpy.cumsum(ordered, axis=1)
    share = numpy.divide(ordered, seen_mass, out=numpy.zeros_like(ordered), where=ordered > 0)
    found = appeared <= draws
    repeats = numpy.where(found, numpy.minimum(next_new, draws + 1) - appeared - 1, 0)
    return order, share, found.astype(numpy.int64), repeats.astype(numpy.int64)
