"""Drawing the weights of units with replacement: how many draws, which weights appear, and how often.

Which weights N draws find is decided by one fixed stream of random numbers for every N: the first
appearances of a unit's weights are simulated once, in order, and N draws find those that appear by then. So the
kept weights only grow with N, and a search for a size is not disturbed by noise. How often each appears is
drawn at the end, for the N that was chosen, from its exact distribution given the first appearances. Together the
counts of a unit are multinomial(N, p).
"""

import numpy

from experiment.allocation.units import Layer, Units

NEWTON_STEPS = 100


def draws_needed(units: Units, kept: numpy.ndarray) -> numpy.ndarray:
    """The smallest N [units] whose expected number of different weights, sum_j 1 - (1 - p_j)^N, is at least `kept`.

    The expectation is concave in N, so Newton's method climbs to the solution from below. `kept` must be less than
    the capacity.
    """
    some = (kept > 0)[units.unit] & (units.probability > 0)
    unit = units.unit[some]
    with numpy.errstate(divide="ignore"):  # p = 1: one draw finds the only weight
        log_missing = numpy.log1p(-units.probability[some])
    draws = numpy.maximum(kept, 0.0)
    for _ in range(NEWTON_STEPS):
        with numpy.errstate(invalid="ignore"):
            missing = numpy.exp(draws[unit] * log_missing)
        found = numpy.bincount(unit, 1 - missing, units.number)
        gain = numpy.bincount(unit, -missing * numpy.maximum(log_missing, -1e300), units.number)
        step = numpy.divide(
            kept - found, gain, out=numpy.zeros(units.number), where=(gain > 0) & (kept > 0)
        )
        draws = draws + numpy.maximum(step, 0)
        if (step <= 1e-9 * draws).all():
            break
    return numpy.ceil(draws * (1 - 1e-12) - 1e-9)


def first_appearances(units: Units, random: numpy.random.Generator) -> numpy.ndarray:
    """The draw, counted from 1, in which each weight appears first [weights]; infinite for importance 0.

    Weights appear in the order of an exponential race with rates p_j; between two appearances the number of draws
    is geometric with the mass of the weights not yet seen.
    """
    result = []
    for layer, part in _layers(units):
        probability = _by_sign(units, layer, part)  # units, weights of a filter
        race = numpy.where(probability > 0, random.exponential(size=probability.shape), numpy.inf)
        race = numpy.divide(
            race, probability, out=numpy.full_like(race, numpy.inf), where=probability > 0
        )
        order = numpy.argsort(race, axis=1, kind="stable")
        ordered = numpy.take_along_axis(probability, order, axis=1)
        unseen = numpy.minimum(
            numpy.cumsum(ordered[:, ::-1], axis=1)[:, ::-1], 1.0
        )  # before the k-th appears
        unseen[:, 0] = 1.0
        uniform = 1 - random.random(size=unseen.shape)  # in (0, 1]
        with numpy.errstate(divide="ignore", invalid="ignore"):
            waits = 1 + numpy.floor(numpy.log(uniform) / numpy.log1p(-unseen))
        waits = numpy.where(ordered > 0, numpy.where(unseen < 1, waits, 1), numpy.inf)
        first = numpy.empty_like(waits)
        numpy.put_along_axis(first, order, numpy.cumsum(waits, axis=1), axis=1)
        result.append(_own_sign(units, layer, part, first))
    return numpy.concatenate(result)


def counts(
    units: Units, first: numpy.ndarray, draws: numpy.ndarray, random: numpy.random.Generator
) -> numpy.ndarray:
    """How often each weight is drawn in `draws` [units] draws, given the first appearances [weights].

    Between the k-th and the next appearance all draws hit the k weights seen. Going backwards, each of them is the
    k-th weight with probability p_k / (p_1 + ... + p_k); the others join those of the interval before.
    """
    result, start = [], 0
    for layer, part in _layers(units):
        size = 2 * layer.filters
        probability, appeared = (
            _by_sign(units, layer, part),
            _spread(units, layer, part, first, numpy.inf),
        )
        total = draws[start : start + size, None]
        start += size
        order = numpy.argsort(appeared, axis=1, kind="stable")
        when = numpy.take_along_axis(appeared, order, axis=1)
        ordered = numpy.take_along_axis(probability, order, axis=1)
        found = when <= total
        seen_share = numpy.divide(
            ordered, numpy.cumsum(ordered, axis=1), out=numpy.zeros_like(ordered), where=ordered > 0
        )
        until = numpy.minimum(
            numpy.concatenate([when[:, 1:], numpy.full((size, 1), numpy.inf)], axis=1), total + 1
        )
        repeats = numpy.where(found, until - when - 1, 0).astype(numpy.int64)
        drawn, pool = found.astype(numpy.int64), numpy.zeros(size, dtype=numpy.int64)
        for k in reversed(range(int(found.sum(1).max(initial=0)))):
            pool = pool + repeats[:, k]
            hits = random.binomial(pool, seen_share[:, k])
            drawn[:, k] += hits
            pool = pool - hits
        by_weight = numpy.empty_like(drawn)
        numpy.put_along_axis(by_weight, order, drawn, axis=1)
        result.append(_own_sign(units, layer, part, by_weight))
    return numpy.concatenate(result)


def _layers(units: Units):
    """Each layer with the part of the flat vector that it takes."""
    start = 0
    for layer in units.layers:
        end = start + layer.filters * layer.weights
        yield layer, slice(start, end)
        start = end


def _spread(
    units: Units, layer: Layer, part: slice, values: numpy.ndarray, other: float
) -> numpy.ndarray:
    """A value of the weights of a layer as [units, weights of a filter], `other` for weights of the other sign."""
    shape = (layer.filters, layer.weights)
    negative, values = units.negative[part].reshape(shape), values[part].reshape(shape)
    return numpy.stack(
        [numpy.where(negative, other, values), numpy.where(negative, values, other)], 1
    ).reshape(2 * layer.filters, layer.weights)


def _by_sign(units: Units, layer: Layer, part: slice) -> numpy.ndarray:
    return _spread(units, layer, part, units.probability, 0.0)


def _own_sign(units: Units, layer: Layer, part: slice, values: numpy.ndarray) -> numpy.ndarray:
    """The inverse of `_spread`: [weights of the layer]."""
    both = values.reshape(layer.filters, 2, layer.weights)
    negative = units.negative[part].reshape(layer.filters, layer.weights)
    return numpy.where(negative, both[:, 1], both[:, 0]).reshape(-1)
