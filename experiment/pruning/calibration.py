"""Searching for the budget of weights with which the whole net has the size that was asked for."""

from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

Attempt = TypeVar("Attempt")
MAX_EVALUATIONS = 20
FALSI_EVALUATIONS = 4  # with interpolation; after these, the interval is halved


class Known(NamedTuple):
    """A budget, and the size of the net that it gives."""

    budget: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Budgets:
    """What a method knows of its budgets before any is tried."""

    nested: bool = False
    """Whether a larger budget keeps all that a smaller one keeps: then sizes only grow."""

    alike: Callable[[int], range] = lambda budget: range(budget, budget + 1)
    """The budgets with which the method keeps the same as with this one."""

    openings: Callable[[int], list[int]] = lambda budget: []
    """The larger budgets, ascending, from which on another layer has weights."""


def calibrate(
    attempt: Callable[[int], Attempt],
    size: Callable[[Attempt], int],
    budget: int,
    largest: int,
    target: int,
    tolerance: float,
    budgets: Budgets | None = None,
) -> tuple[Attempt, int]:
    """The attempt whose size is closest to the target, and how many were evaluated.

    A budget in [0, largest] may lead to a net that is smaller than the budget promises, because
    parameters died, or that is larger or smaller by chance. The size is searched for as a function
    of the budget, between a budget that gave too little and one that gave too much: first by regula
    falsi, then, as the function may have jumps, by halving. Where larger budgets leave the size
    as it is, everything is dead, and budgets at which layers open are tried.

    If only a jump is left between the two, that is all for nested budgets: no other size is closer.
    For others, budgets around the best one are tried, since the function may jump back. The
    returned attempt is the very one that was measured.

    Args:
        attempt: prunes to a budget.
        size: of what an attempt gave.
        budget: the first one to try.
        largest: the largest one there is.
        target: the size asked for.
        tolerance: distance from the target at which the search ends.
        budgets: what the method knows of them.
    """
    search = _Search(attempt, size, largest, target, budgets or Budgets())
    following: int | None = min(max(budget, 0), largest)
    while following is not None and search.evaluations < MAX_EVALUATIONS:
        search.try_budget(following)
        if abs(search.best.size - target) <= tolerance or search.is_over:
            break
        following = search.next_budget()
    return search.best_attempt, search.evaluations


class _Search(Generic[Attempt]):
    """The budgets tried so far, and the one to try next."""

    def __init__(
        self,
        attempt: Callable[[int], Attempt],
        size: Callable[[Attempt], int],
        largest: int,
        target: int,
        budgets: Budgets,
    ):
        self.attempt = attempt
        self.size = size
        self.largest = largest
        self.target = target
        self.budgets = budgets
        self.evaluations = 0
        self.evaluated: list[tuple[range, int]] = []  # budgets that are alike, and their size
        self.sizes: dict[int, int] = {}  # of the budgets tried
        self.too_little: Known | None = None
        self.too_much: Known | None = None
        self.has_plateau = False  # whether a larger budget left too small a size as it was
        self.best: Known
        self.best_attempt: Attempt

    def try_budget(self, budget: int) -> None:
        """Find the size that a budget gives. Nothing is evaluated if one like it was."""
        sizes = (size for budgets, size in self.evaluated if budget in budgets)
        size = next(sizes, None)
        if size is None:
            size = self._evaluate(budget)
            if self.too_little is not None and size == self.too_little.size:
                self.has_plateau = True
        known = Known(budget, size)
        self.sizes[budget] = size
        if size < self.target:
            self.too_little = max(self.too_little or known, known)
        else:
            self.too_much = min(self.too_much or known, known)

    def _evaluate(self, budget: int) -> int:
        attempt = self.attempt(budget)
        size = self.size(attempt)
        if not self.evaluations or abs(size - self.target) < abs(self.best.size - self.target):
            self.best = Known(budget, size)
            self.best_attempt = attempt
        self.evaluations += 1
        self.evaluated.append((self.budgets.alike(budget), size))
        return size

    @property
    def is_over(self) -> bool:
        """Whether it is certain that no other size is closer to the target."""
        if not self.budgets.nested:
            return self.too_much is not None and self.too_much.budget == 0
        too_little = -1
        if self.too_little is not None:
            too_little = self.budgets.alike(self.too_little.budget)[-1]
        too_much = self.largest + 1
        if self.too_much is not None:
            too_much = self.budgets.alike(self.too_much.budget)[0]
        return too_much - too_little <= 1

    def next_budget(self) -> int | None:
        """What to try next; None if there is nothing left."""
        following: int | None = None
        if self.has_plateau:
            following = self._budget_at_opening()
        if following is None:
            following = _next_budget(
                self.too_little, self.too_much, self.largest, self.target, len(self.sizes)
            )
        if following in self.sizes:
            following = _nearby_budget(self.best, self.target, self.largest, self.sizes)
        return following

    def _budget_at_opening(self) -> int | None:
        """The middle one of the openings in question, or the last budget before it."""
        assert self.too_little is not None
        high = self.largest if self.too_much is None else self.too_much.budget
        openings = self.budgets.openings(self.too_little.budget)
        openings = [budget for budget in openings if budget <= high]
        if not openings:
            return None
        middle = openings[len(openings) // 2]
        following = middle - 1 if middle in self.sizes else middle
        return None if following in self.sizes else following


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
