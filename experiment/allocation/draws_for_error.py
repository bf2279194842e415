"""How many draws a relative error asks for (PFP, arXiv:1911.07412), and the inverse."""

import numpy


def draws_for_error(error: numpy.ndarray, alpha: numpy.ndarray) -> numpy.ndarray:
    """N = ceil(3 (6 + 2 e) alpha / e^2) for the relative error e, elementwise."""
    return numpy.ceil(3 * (6 + 2 * error) * alpha / error**2)


def error_for_draws(draws: numpy.ndarray, alpha: numpy.ndarray) -> numpy.ndarray:
    """The e at which 3 (6 + 2 e) alpha / e^2 is `draws`, elementwise: a smaller e asks for more.

    Infinite for no draws, 0 for infinitely many.
    """
    with numpy.errstate(divide="ignore", invalid="ignore"):
        error = (3 * alpha + numpy.sqrt(9 * alpha**2 + 18 * alpha * draws)) / draws
    return numpy.where(draws <= 0, numpy.inf, numpy.where(numpy.isinf(draws), 0, error))
