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


class Evaluated(NamedTuple):
    """Budgets that keep the same, and the size of the net that an attempt found."""

    budgets: range
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
    falsi, then, as the function may have jumps, by halving. If only a jump is left between the two,
    that is all for nested budgets: no other size is closer. For others, budgets around the best one
    are tried, since the function may jump back. The returned attempt is the very one that was
    measured.

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
        size_found = search.try_budget(following)
        if abs(size_found - target) <= tolerance:
            break
        search.probe_openings()
        if search.is_over:
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
        self.evaluated: list[Evaluated] = []
        self.sizes: dict[int, int] = {}  # of the budgets tried, evaluated or not
        self.too_little: Known | None = None
        self.too_much: Known | None = None
        self.is_probed = False  # whether budgets at which layers open have been evaluated
        self.best: Known
        self.best_attempt: Attempt

    def try_budget(self, budget: int) -> int:
        """The size that a budget gives. It is not evaluated if it follows from others."""
        size = self._known_size(budget)
        if size is None:
            size = self._evaluate(budget)
        known = Known(budget, size)
        self.sizes[budget] = size
        if size < self.target:
            self.too_little = max(self.too_little or known, known)
        else:
            self.too_much = min(self.too_much or known, known)
        return size

    def probe_openings(self) -> None:
        """Find the jump of the size where nothing but a layer without weights is in the way.

        If a larger budget leaves too small a size as it was, everything is dead. It may come alive
        as a whole when the layer opens; halving would take long to find that budget.
        """
        sizes = [known.size for known in self.evaluated if known.size < self.target]
        if self.is_probed or len(sizes) == len(set(sizes)):
            return
        self.is_probed = True
        openings = self.budgets.openings(self._most_too_little)
        while self.evaluations < MAX_EVALUATIONS:
            between = [
                budget
                for budget in openings
                if self._most_too_little < budget < self._least_too_much
            ]
            if not between:
                break
            self._evaluate(between[len(between) // 2])
        if self._least_too_much in openings and not self.is_over:
            self._evaluate(self._least_too_much - 1)

    @property
    def is_over(self) -> bool:
        """Whether it is certain that no other size is closer to the target."""
        if self.budgets.nested:
            return self._least_too_much - self._most_too_little <= 1
        return self._least_too_much == 0

    def next_budget(self) -> int | None:
        """What to try next; None if there is nothing left."""
        following: int | None = _next_budget(
            self.too_little, self.too_much, self.largest, self.target, len(self.sizes)
        )
        if following in self.sizes:
            following = _nearby_budget(self.best, self.target, self.largest, self.sizes)
        return following

    @property
    def _most_too_little(self) -> int:
        """The largest budget that is known to give too little; -1 if none is."""
        known = [known.budgets[-1] for known in self.evaluated if known.size < self.target]
        return max(known, default=-1)

    @property
    def _least_too_much(self) -> int:
        """The smallest budget that is known to give enough; one too large if none is."""
        known = [known.budgets[0] for known in self.evaluated if known.size >= self.target]
        return min(known, default=self.largest + 1)

    def _known_size(self, budget: int) -> int | None:
        """The size that follows from what was evaluated, if it does."""
        for known in self.evaluated:
            if budget in known.budgets:
                return known.size
        if self.budgets.nested:
            below = [known.size for known in self.evaluated if known.budgets[-1] < budget]
            above = [known.size for known in self.evaluated if known.budgets[0] > budget]
            if below and above and max(below) == min(above):
                return max(below)
        return None

    def _evaluate(self, budget: int) -> int:
        attempt = self.attempt(budget)
        size = self.size(attempt)
        if not self.evaluated or abs(size - self.target) < abs(self.best.size - self.target):
            self.best = Known(budget, size)
            self.best_attempt = attempt
        self.evaluated.append(Evaluated(self.budgets.alike(budget), size))
        return size

    @property
    def evaluations(self) -> int:
        return len(self.evaluated)


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
