"""Chernoff's bound of a sampled unit at a point whose contributions are known.

Statement: at a point with contributions g, the relative error of a unit that N draws have sampled
exceeds `pointwise_error` with at most the probability `failure`, which is that of the draws.

Assumption: none, but the bound speaks of this point alone, as of one of S. To speak of several
points at once, divide the failure probability by their number.

Proof: z_hat / z is the mean of N independent X = g_J / p_J with J drawn by p. For every t > 0,
P(mean >= 1 + e) <= exp(-N (t (1 + e) - L(t))) with the exact log moment generating function
L(t) = ln sum_j p_j exp(t g_j / p_j) (Chernoff 1952, Ann. Math. Stat. 23). This is half of the
failure probability for e(t) = (L(t) + ln(2 / failure) / N) / t - 1, and the lower side is that of
-X. Every t gives a valid bound, and their minimum is one since t depends on nothing random: so the
search for the best t may be coarse. One t that is tried is the one with which Bernstein's
inequality is proven for the range and the variance that X has at this point, so the bound is never
wider than that. At points of S these are at most T, so it is never wider than the paper's
certificate with C = 1 and the same failure probability either. Nor is it larger than the largest
deviation that X can have.
"""

import math

import torch
from torch import Tensor

from experiment.certification.certificates import Certificates
from experiment.certification.fresh_points import FreshPoints
from experiment.pruning.pruned import Pruned
from experiment.sensitivity.empirical import EPSILON

# What the first t is multiplied with. So coarse a search makes the bound at most 3% wider.
SCALES = tuple(2.0 ** (step / 3) for step in range(-3, 12))
SMALLEST = 1e-300
TILE_FLOATS = 2**22  # of contributions computed at a time


def pointwise_bound(
    certificates: Certificates, pruned: Pruned, sample: FreshPoints, failure: float
) -> dict[str, Tensor]:
    """By layer, relative errors [filters, 2] that hold at all of some points of S at once.

    Of a unit whose weights keep their values, it is the largest error at these points: there is
    nothing random about it.
    """
    removal = certificates.removal(pruned)
    draws = certificates.by_layer(removal.draws)
    result = {}
    for name, points in sample.points.items():
        errors = sample.errors(certificates, pruned, name).amax(2)  # 2, filters
        weight = certificates.weight(name).cpu().double().flatten(1)
        sensitivity = certificates.sensitivities[name].cpu().double().flatten(1)
        for unit, sign in enumerate((1, -1)):
            own_draws = draws[name][:, unit]
            chosen = (own_draws > 0).nonzero()[:, 0]
            errors[unit, chosen] = _largest_errors(
                (sign * weight).clamp(min=0),
                torch.where(sign * weight > 0, sensitivity, 0),
                own_draws,
                points,
                chosen,
                failure / points.shape[2],
            )
        result[name] = errors.t()
    return result


def _largest_errors(
    weight: Tensor,
    sensitivity: Tensor,
    draws: Tensor,
    points: Tensor,
    chosen: Tensor,
    failure: float,
) -> Tensor:
    """The largest `pointwise_error` of some filters over all points [chosen].

    Args:
        weight, sensitivity: of one sign, 0 for weights of the other [filters, K].
        draws: [filters].
        points: [groups, K, points].
        chosen: the filters, ascending.
        failure: of each point.
    """
    per_group = len(weight) // len(points)
    step = max(1, TILE_FLOATS // (weight.shape[1] * points.shape[2]))
    result = []
    for group, matrix in enumerate(points):
        for rows in chosen[chosen // per_group == group].split(step):
            products = weight[rows, None] * matrix.t()  # filters, points, K
            z = products.sum(2, keepdim=True)
            sees = z > EPSILON
            probability = sensitivity[rows] / sensitivity[rows].sum(1, keepdim=True)
            errors = pointwise_error(
                torch.where(sees, products / z, probability[:, None]),
                probability[:, None],
                draws[rows, None],
                failure,
            )
            result.append(errors.amax(1))
    return torch.cat(result) if result else weight.new_zeros(0)


def pointwise_error(
    contributions: Tensor, probabilities: Tensor, draws: Tensor, failure: float
) -> Tensor:
    """The relative error that draws exceed with at most the probability `failure` [...].

    Args:
        contributions: g of each weight, 0 where p is [..., K].
        probabilities: p of each weight, which add up to 1 [..., K], broadcast.
        draws: N [...], above 0, broadcast.
        failure: for both sides together, below 2.
    """
    contributions, probabilities = contributions.double(), probabilities.double()
    possible = probabilities > 0
    value = torch.where(possible, contributions / torch.where(possible, probabilities, 1), 0)
    highest = value.amax(-1)
    lowest = torch.where(possible, value, torch.inf).amin(-1)
    variance = ((value - 1).square() * probabilities).sum(-1)
    information = math.log(2 / failure) / draws
    logarithm = probabilities.log()  # -infinity where p is 0
    above = _upper_error(value - 1, logarithm, variance, highest - 1, information)
    below = _upper_error(1 - value, logarithm, variance, 1 - lowest, information)
    return torch.maximum(above, below).clamp(min=0)


def _upper_error(
    deviation: Tensor, logarithm: Tensor, variance: Tensor, largest: Tensor, information: Tensor
) -> Tensor:
    """The bound of the mean of a deviation [...].

    Args:
        deviation: of each weight, with the mean 0 [..., K].
        logarithm: ln p of each weight [..., K].
        variance, largest: of the deviation [...].
        information: ln(2 / failure) / N [...].
    """
    slope = largest.clamp(min=0) * information / 3
    bernstein = slope + (slope.square() + 2 * variance * information).sqrt()
    first = bernstein / (variance + largest.clamp(min=0) * bernstein / 3).clamp(min=SMALLEST)
    result = largest
    for scale in SCALES:
        t = (scale * first).clamp(min=1e-9, max=1e9)
        moment = (logarithm + t[..., None] * deviation).logsumexp(-1)
        result = torch.minimum(result, (moment + information) / t)
    return result
