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
    budget = min(max(budget, 0), largest)
    best = attempt(budget)
    known = best_known = Known(budget, size(best))
    sizes = {budget: known.size}  # of the budgets tried
    too_little: Known | None = None
    too_much: Known | None = None
    while len(sizes) < MAX_EVALUATIONS:
        if abs(known.size - target) <= tolerance:
            break
        if known.budget == 0 and known.size > target:
            break  # there is no smaller budget
        if known.size < target:
            too_little = max(too_little or known, known)
        else:
            too_much = min(too_much or known, known)
        following: int | None = _next_budget(too_little, too_much, largest, target, len(sizes))
        if following in sizes:
            following = _nearby_budget(best_known, target, largest, sizes)
        if following is None:
            break
        current = attempt(following)
        known = Known(following, size(current))
        sizes[following] = known.size
        if abs(known.size - target) < abs(best_known.size - target):
            best = current
            best_known = known
    return best, len(sizes)


def _next_budget(
    too_little: Known | None, too_much: Known | None, largest: int, target: int, evaluations: int
) -> int:
    """What to try next, given the closest known budgets, on one side at least.

    It may be known already: then nothing is left between the two.
    """
    if too_little is not None and too_much is not None:
        low, high = sorted((too_little, too_much))
        return _budget_between(low, high, target, evaluations)
    known = too_little or too_much
    assert known is not None
    budget = known.budget + 2 ** (evaluations - 1) * (target - known.size)
    return min(max(budget, 0), largest)


def _budget_between(low: Known, high: Known, target: int, evaluations: int) -> int:
    """A budget between two, by interpolation and later half way; the lower if there is none."""
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
