"""The optimal distribution of a budget of weights over units: an exact convex solution without a solver.

Minimise sum_i l_i e_i(m_i) subject to sum_i m_i <= B and 0 <= m_i <= n_i, with the relative error
e(m) = 3 / (s - 1), s = sqrt(1 + 6 m / a), a unit suffers when m of its weights are kept (SiPP, arXiv:1910.05422,
Section 5; a = alpha / 3). Each e_i falls and is convex, so at the optimum -l_i e_i'(m_i) equals one number lambda
wherever m_i < n_i. With d = s - 1 that reads (1 + d) d^2 = q, q = 9 l / (a lambda): a cubic with one positive root.
"""

import math

import torch
from torch import Tensor

MAX_ITERATIONS = 100
PRECISION = 1e-11  # relative, of the sum


def relative_error(kept: Tensor, scale: Tensor) -> Tensor:
    """e(m) for `kept` = m and `scale` = a, elementwise; infinite at m = 0."""
    return 3 / _excess(kept, scale)


def allocate(scale: Tensor, importance: Tensor, capacity: Tensor, budget: float) -> Tensor:
    """The optimal m [units], float64, for scales a > 0, importances l > 0 and capacities n >= 0, each [units].

    The sum is the budget, or that of the capacities if the budget is larger. Units of scale 0 get nothing.
    """
    scale, importance, capacity = scale.double(), importance.double(), capacity.double()
    capacity = torch.where(scale > 0, capacity, 0)
    if float(capacity.sum()) <= budget:
        return capacity
    used = (capacity > 0).nonzero().flatten()
    result = torch.zeros_like(capacity)
    if budget > 0:
        result[used] = _solve(scale[used], importance[used], capacity[used], float(budget))
    return result


def _solve(scale: Tensor, importance: Tensor, capacity: Tensor, budget: float) -> Tensor:
    """Newton's method for log(sum m) = log B as a function of log lambda, kept between bounds by bisection."""
    ratio = 9 * importance / scale
    # At `low` every unit would keep its capacity, at `high` no unit more than its share of the budget.
    low = _log_lambda(ratio, capacity, scale).min().item()
    high = _log_lambda(ratio, capacity * (budget / float(capacity.sum())), scale).max().item()
    # Where m is far below a, m = sqrt(a l / lambda), which tells lambda at once: a good place to start.
    at = min(max(2 * math.log(float(torch.sqrt(scale * importance).sum()) / budget), low), high)
    for _ in range(MAX_ITERATIONS):
        d = _root(ratio * math.exp(-at))
        free = scale * d * (2 + d) / 6
        kept = torch.minimum(capacity, free)
        total = float(kept.sum())
        excess = math.log(total / budget)
        low, high = (at, high) if excess > 0 else (low, at)
        if abs(excess) < PRECISION or high - low < PRECISION * max(1.0, abs(low)):
            break
        # dm / d(log lambda) = -a (1 + d)^2 d / (3 (2 + 3 d)) for units below their capacity
        slope = (
            float(
                torch.where(free < capacity, scale * (1 + d) ** 2 * d / (3 * (2 + 3 * d)), 0).sum()
            )
            / total
        )
        at = at + excess / slope if slope > 0 else low
        if not low < at < high:
            at = (low + high) / 2
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
    """The positive root d of (1 + d) d^2 = q, in closed form and, for full relative precision, a Newton step."""
    c = 13.5 * q - 1
    trigonometric = torch.cos(torch.arccos(c.clamp(-1, 1)) / 3)
    hyperbolic = torch.cosh(torch.arccosh(c.clamp(min=1)) / 3)
    d = (2 * torch.where(c <= 1, trigonometric, hyperbolic) - 1) / 3
    small = torch.sqrt(q)
    d = torch.where(q < 1e-6, small - q / 2, d)  # a series where the closed form cancels
    return d - (_cubic(d) - q) / (d * (2 + 3 * d))
