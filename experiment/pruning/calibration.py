"""Searching for the budget of weights with which the whole net has the size that was asked for."""

from collections.abc import Callable, Container
from typing import NamedTuple, TypeVar

Attempt = TypeVar("Attempt")
MAX_EVALUATIONS = 20
FALSI_EVALUATIONS = 4  # with interpolation; after these, the interval is halved


class Known(NamedTuple):
    """A budget that was tried, and the size of the net that it gave."""

    budget: int
    size: int


def calibrate(
    attempt: Callable[[int], Attempt],
    size: Callable[[Attempt], int],
    budget: int,
    largest: int,
    target: int,
    tolerance: float,
) -> tuple[Attempt, int]:
    """The attempt whose size is closest to the target, and how many budgets were tried.

    A budget in [0, largest] may lead to a net that is smaller than the budget promises, because
    parameters died, or that is larger or smaller by chance. The size is searched for as a function
    of the budget, between a budget that gave too little and one that gave too much: first by regula
    falsi, then, as the function may have jumps, by halving. If only a jump is left between the two,
    budgets around the best one are tried, since the function may jump back. The returned attempt is
    the very one that was measured.

    Args:
        attempt: prunes to a budget.
        size: of what an attempt gave.
        budget: the first one to try.
        largest: the largest one there is.
        target: the size asked for.
        tolerance: distance from the target at which the search ends.
    """
    sizes: dict[int, int] = {}  # of the budgets tried
    best: tuple[Attempt, Known] | None = None
    too_little: Known | None = None
    too_much: Known | None = None
    budget = min(max(budget, 0), largest)
    while budget is not None and len(sizes) < MAX_EVALUATIONS:
        current = attempt(budget)
        known = Known(budget, size(current))
        sizes[budget] = known.size
        if best is None or abs(known.size - target) < abs(best[1].size - target):
            best = current, known
        if abs(known.size - target) <= tolerance:
            break
        if budget == 0 and known.size > target:
            break  # there is no smaller budget
        if known.size < target:
            too_little = max(too_little or known, known)
        else:
            too_much = min(too_much or known, known)
        budget = _next_budget(too_little, too_much, largest, target, len(sizes))
        if budget in sizes:
            budget = _nearby_budget(best[1], target, largest, sizes)
    return best[0], len(sizes)


def _next_budget(
    too_little: Known | None, too_much: Known | None, largest: int, target: int, evaluations: int
) -> int:
    """What to try next, given the closest known budgets on both sides.

    It may be known already: then nothing is left between the two.
    """
    if too_much is None:
        step = 2 ** (evaluations - 1) * (target - too_little.size)
        return min(largest, too_little.budget + step)
    if too_little is None:
        step = 2 ** (evaluations - 1) * (too_much.size - target)
        return max(0, too_much.budget - step)
    low, high = sorted((too_little, too_much))
    if high.budget - low.budget <= 1:
        return low.budget
    share = 0.5
    if evaluations <= FALSI_EVALUATIONS and high.size != low.size:
        share = (target - low.size) / (high.size - low.size)
    between = low.budget + round(share * (high.budget - low.budget))
    return min(max(between, low.budget + 1), high.budget - 1)


def _nearby_budget(best: Known, target: int, largest: int, tried: Container[int]) -> int | None:
    """The first untried budget beyond the best one's, if there is one.

    The search starts where the size would be right if each weight counted once.
    """
    missing = target - best.size
    start = best.budget + missing
    candidates = range(start, largest + 1) if missing > 0 else range(start, -1, -1)
    for budget in candidates:
        if 0 <= budget <= largest and budget not in tried:
            return budget
    return None
