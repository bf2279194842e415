"""Chernoff's bound of a sampled unit, in place of Bernstein's, within the envelope C s.

Statement: for a point whose contributions are all within C s_j, the relative error of a unit that N
draws have sampled exceeds `binomial_error` with at most the probability `failure`. The probability
is that of the draws; the point may be any that does not depend on them.

Assumption: the envelope, as for the paper's certificate.

Proof: z_hat / z is the mean of N independent X = g_J / p_J, J drawn with p_j = s_j / T. X lies in
[0, M] with M = C T, and has the mean 1. The exponential function is convex, so that
E exp(t X) <= 1 + (exp(t M) - 1) / M: that of M times a Bernoulli variable of probability 1 / M.
Chernoff's bound for the sum of N of these is exp(-N KL(q || 1/M)) that it is at least q M N, and
the same that it is at most q M N (Hoeffding 1963, J. Am. Stat. Assoc. 58, Theorem 1, equation 2.1).
Each side gets half of the failure probability.

It is never wider than Bernstein's: that one bounds the same exponential moment from nothing but the
range M and the variance, at most M, which the Bernoulli variable has as well. No bound by an
exponential moment that knows only the envelope is much smaller: if some of the p_j add up to 1 / M,
contributions of C s_j there are that Bernoulli variable.
"""

import math

import numpy
from scipy.special import rel_entr
from torch import Tensor

from experiment.certification.certificates import Certificates
from experiment.pruning.pruned import Pruned

BISECTIONS = 100
ROUNDING = 1e-15  # of a divergence in double precision, at most


def binomial_bound(
    certificates: Certificates, pruned: Pruned, constant: float, failure: float
) -> dict[str, Tensor]:
    """By layer, the certified relative errors [filters, 2] within the envelope of a constant C.

    A unit whose weights keep their values loses the contributions of those that are gone: at most C
    times their sensitivities, and never more than all, 1.
    """
    removal = certificates.removal(pruned)
    random = binomial_error(certificates.units.total, removal.draws, failure, constant)
    kept = numpy.minimum(constant * removal.dropped, 1)
    return certificates.by_layer(numpy.where(removal.sampled, random, kept))


def binomial_error(
    total: numpy.ndarray, draws: numpy.ndarray, failure: float, constant: float
) -> numpy.ndarray:
    """The relative error that draws exceed with at most the probability `failure` [units].

    Infinite without draws, and for a failure of 2 or more, with which nothing is claimed. 0 where
    M = C T is at most 1: there every draw gives 1, if the envelope holds.

    Args:
        total: T, the sum of the sensitivities [units].
        draws: N [units].
        failure: for both sides together.
        constant: C.
    """
    if failure >= 2:
        return numpy.full(numpy.shape(total), numpy.inf)
    with numpy.errstate(divide="ignore"):
        divergence = numpy.where(draws > 0, math.log(2 / failure) / draws, numpy.inf)
    largest = numpy.maximum(constant * total, 1)  # M
    mean = 1 / largest
    above = largest * _share_at(divergence, mean, numpy.ones_like(mean)) - 1
    below = 1 - largest * _share_at(divergence, mean, numpy.zeros_like(mean))
    return numpy.where(draws > 0, numpy.maximum(above, below), numpy.inf)


def _share_at(divergence: numpy.ndarray, mean: numpy.ndarray, end: numpy.ndarray) -> numpy.ndarray:
    """The q between the mean and an end, 0 or 1, with KL(q || mean) = divergence [units].

    The end itself if there is none. Of the interval in which bisection leaves q, the bound of the
    side that is farther from the mean is returned.
    """
    near = mean
    far = end
    for _ in range(BISECTIONS):
        middle = (near + far) / 2
        enough = _divergence(middle, mean) >= divergence + ROUNDING
        far = numpy.where(enough, middle, far)
        near = numpy.where(enough, near, middle)
    return far


def _divergence(share: numpy.ndarray, mean: numpy.ndarray) -> numpy.ndarray:
    """KL(share || mean) of Bernoulli variables [units]."""
    return rel_entr(share, mean) + rel_entr(1 - share, 1 - mean)
