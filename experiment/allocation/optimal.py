"""The optimal distribution of a budget of weights over units: exact, and without a convex solver.

Minimise sum_i l_i e_i(m_i) subject to sum_i m_i <= B and 0 <= m_i <= n_i. A unit that keeps m of
its weights has the relative error e(m) = 3 / (s - 1) with s = sqrt(1 + 6 m / a) (SiPP,
arXiv:1910.05422, Section 5; a = alpha / 3). Each e_i falls and is convex, so at the optimum
-l_i e_i'(m_i) equals one number lambda wherever m_i < n_i. With d = s - 1 that reads
(1 + d) d^2 = q with q = 9 l / (a lambda): a cubic with one positive root.
"""

import math

import torch
from torch import Tensor

MAX_ITERATIONS = 100
PRECISION = 1e-11  # relative, of the sum


def allocate(scale: Tensor, error_weight: Tensor, capacity: Tensor, budget: float) -> Tensor:
    """The optimal m [units], float64.

    Its sum is the budget, or that of the capacities if the budget is larger.

    Args:
        scale: a [units], not negative; units of scale 0 get nothing.
        error_weight: l [units], positive.
        capacity: n [units], not negative.
        budget: B.
    """
    scale = scale.double()
    error_weight = error_weight.double()
    capacity = torch.where(scale > 0, capacity.double(), 0)
    if float(capacity.sum()) <= budget:
        return capacity
    used = (capacity > 0).nonzero().flatten()
    result = torch.zeros_like(capacity)
    if budget > 0:
        result[used] = _solve(scale[used], error_weight[used], capacity[used], float(budget))
    return result


def _solve(scale: Tensor, error_weight: Tensor, capacity: Tensor, budget: float) -> Tensor:
    """Newton's method for log(sum m) = log B over log lambda, kept between bounds by bisection."""
    ratio = 9 * error_weight / scale
    # At `low` every unit keeps its capacity, at `high` none more than its share of the budget.
    low = _log_lambda(ratio, capacity, scale).min().item()
    high = _log_lambda(ratio, capacity * (budget / float(capacity.sum())), scale).max().item()
    # Where m is far below a, m = sqrt(a l / lambda), which gives lambda at once: a good start.
    start = 2 * math.log(float(torch.sqrt(scale * error_weight).sum()) / budget)
    log_lambda = min(max(start, low), high)
    for _ in range(MAX_ITERATIONS):
        d = _root(ratio * math.exp(-log_lambda))
        free = scale * d * (2 + d) / 6
        kept = torch.minimum(capacity, free)
        total = float(kept.sum())
        excess = math.log(total / budget)
        if excess > 0:
            low = log_lambda
        else:
            high = log_lambda
        if abs(excess) < PRECISION or high - low < PRECISION * max(1.0, abs(low)):
            break
        # dm / d(log lambda) = -a (1 + d)^2 d / (3 (2 + 3 d)) for units below their capacity
        change = scale * (1 + d) ** 2 * d / (3 * (2 + 3 * d))
        slope = float(torch.where(free < capacity, change, 0).sum()) / total
        log_lambda = log_lambda + excess / slope if slope > 0 else low
        if not low < log_lambda < high:
            log_lambda = (low + high) / 2
    return kept


def _log_lambda(ratio: Tensor, kept: Tensor, scale: Tensor) -> Tensor:
    """The logarithm of each unit's -l e'(m)."""
    return torch.log(ratio / _cubic(_excess(kept, scale)))


def _excess(kept: Tensor, scale: Tensor) -> Tensor:
    """d = s - 1 for m kept weights, without cancellation for small m."""
    x = 6 * kept / scale
    return x / (torch.sqrt(1 + x) + 1)


def _cubic(d: Tensor) -> Tensor:
    return (1 + d) * d * d


def _root(q: Tensor) -> Tensor:
    """The positive root d of (1 + d) d^2 = q: in closed form, then a Newton step for precision."""
    c = 13.5 * q - 1
    trigonometric = torch.cos(torch.arccos(c.clamp(-1, 1)) / 3)
    hyperbolic = torch.cosh(torch.arccosh(c.clamp(min=1)) / 3)
    d = (2 * torch.where(c <= 1, trigonometric, hyperbolic) - 1) / 3
    small = torch.sqrt(q)
    d = torch.where(q < 1e-6, small - q / 2, d)  # a series where the closed form cancels
    return d - (_cubic(d) - q) / (d * (2 + 3 * d))
