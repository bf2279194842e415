"""Searching the budget of weights at which the whole net has the size that was asked for."""

from collections.abc import Callable, Container
from typing import TypeVar

Attempt = TypeVar("Attempt")
MAX_EVALUATIONS = 20
FALSI_EVALUATIONS = 4


def calibrate(
    attempt: Callable[[int], Attempt],
    size: Callable[[Attempt], int],
    budget: int,
    largest: int,
    target: int,
    tolerance: float,
) -> tuple[Attempt, int]:
    """The attempt whose size comes closest to the target, or is no further from it than the tolerance, and how many
    budgets were tried.

    A budget in [0, largest] leads to a net that may be smaller than the budget promises, because parameters
    died, or larger or smaller by chance. The size is searched as a function of the budget, between a budget that
    gave too little and one that gave too much: first by regula falsi, then, where the function has jumps, by halving.
    If a jump is all that is left between the two, budgets around the best one are tried, since the function may jump
    back. The returned attempt is the very one that was measured.
    """
    tried: dict[int, int] = {}
    best: tuple[Attempt, int] | None = None  # and its budget
    too_little: tuple[int, int] | None = None  # budget and size
    too_much: tuple[int, int] | None = None
    budget = min(max(budget, 0), largest)
    while budget is not None and len(tried) < MAX_EVALUATIONS:
        current = attempt(budget)
        achieved = tried[budget] = size(current)
        if best is None or abs(achieved - target) < abs(tried[best[1]] - target):
            best = current, budget
        if abs(achieved - target) <= tolerance or (budget == 0 and achieved > target):
            break  # close enough, or the least there is
        if achieved < target:
            too_little = max(too_little or (budget, achieved), (budget, achieved))
        else:
            too_much = min(too_much or (budget, achieved), (budget, achieved))
        budget = _next_budget(too_little, too_much, largest, target, len(tried))
        if budget in tried:
            budget = _nearby_budget(best[1], target - tried[best[1]], largest, tried)
    return best[0], len(tried)


def _nearby_budget(budget: int, missing: int, largest: int, tried: Container[int]) -> int | None:
    """The first untried budget from where a size would be right if each weight counted once; None if there is none."""
    end, step = (largest + 1, 1) if missing > 0 else (-1, -1)
    return next(
        (
            place
            for place in range(budget + missing, end, step)
            if 0 <= place <= largest and place not in tried
        ),
        None,
    )


def _next_budget(
    too_little: tuple[int, int] | None,
    too_much: tuple[int, int] | None,
    largest: int,
    target: int,
    evaluations: int,
) -> int:
    """Where to look next, given the closest known budgets on both sides and their sizes."""
    if too_much is None:
        budget, achieved = too_little
        return min(largest, budget + 2 ** (evaluations - 1) * (target - achieved))
    if too_little is None:
        budget, achieved = too_much
        return max(0, budget - 2 ** (evaluations - 1) * (achieved - target))
    (low, less), (high, more) = sorted((too_little, too_much))
    if high - low <= 1:
        return low  # known already: nothing is left between
    share = (
        (target - less) / (more - less)
        if evaluations <= FALSI_EVALUATIONS and more != less
        else 0.5
    )
    return min(max(low + round(share * (high - low)), low + 1), high - 1)
