"""The relative error that sampling a unit has with high probability."""

import math

import numpy

from experiment.sensitivity.constants import C


def bernstein_error(total: numpy.ndarray, draws: numpy.ndarray, failure: float) -> numpy.ndarray:
    """e(N): the relative error that N draws exceed with at most the probability `failure` [units].

    For a unit of total sensitivity T and a point whose contributions are at most C times the
    sensitivities, Bernstein's inequality gives e = 6 / (sqrt(1 + 6 N / b) - 1) with
    b = C T ln(2 / failure) / 3. Infinite without draws, and for a failure of 2 or more, with which
    nothing is claimed.
    """
    if failure >= 2:
        return numpy.full(numpy.shape(total), numpy.inf)
    b = C * total * math.log(2 / failure) / 3
    x = numpy.divide(6 * draws, b, out=numpy.full(numpy.shape(b), numpy.inf), where=b > 0)
    with numpy.errstate(divide="ignore"):
        return numpy.where(draws > 0, 6 / (numpy.sqrt(1 + x) - 1), numpy.inf)


def bernstein_draws(total: numpy.ndarray, error: float, failure: float) -> numpy.ndarray:
    """The smallest N [units] with e(N) <= `error`: b (6 + 2 e) / e^2, the inverse of the above.

    None are needed by units without sensitivity; infinitely many for an error of 0.
    """
    b = C * total * math.log(2 / failure) / 3
    if error <= 0:
        return numpy.where(total > 0, numpy.inf, 0.0)
    with numpy.errstate(over="ignore"):
        return numpy.ceil(b * (6 + 2 * error) / error**2)
