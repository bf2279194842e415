"""Means over nets with what is known of their error, and how they are combined.

All formulas are those of Student and of Welch and Satterthwaite: the variances of independent means
are added, and the degrees of freedom of the sum follow from those of its terms. For the mean of one
sample that is exact if its values are normal; for sums it is an approximation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

SMALLEST = 1e-9  # points: differences of scores below this are rounding errors


@dataclass(frozen=True)
class Estimate:
    """A mean, the variance of that mean, and its degrees of freedom.

    With a single value the variance is unknown (nan), and so are the ends of intervals.
    """

    mean: float
    variance: float
    degrees: float

    def interval(self, confidence: float) -> tuple[float, float]:
        """Both ends of the confidence interval of Student's t, nan where the variance is unknown.

        It is unknown as well if all values are alike: accuracies are multiples of one image, so
        that few values may well be equal by chance, and none would then be uncertain.
        """
        if not self.variance > SMALLEST**2:
            return math.nan, math.nan
        quantile = quantile_of_t((1 + confidence) / 2, self.degrees)
        half = quantile * math.sqrt(self.variance)
        return self.mean - half, self.mean + half


def mean_of(values: Sequence[float]) -> Estimate:
    """The mean of independent values."""
    count = len(values)
    mean = sum(values) / count
    if count == 1:
        return Estimate(mean, math.nan, 0)
    squares = sum((value - mean) ** 2 for value in values)
    return Estimate(mean, squares / (count - 1) / count, count - 1)


def combined(terms: Sequence[tuple[float, Estimate]]) -> Estimate:
    """The sum of independent estimates, each multiplied with a factor."""
    mean = sum(factor * term.mean for factor, term in terms)
    variances = [factor**2 * term.variance for factor, term in terms]
    total = sum(variances)
    if not total > 0:  # zero, or unknown
        return Estimate(mean, total, 0)
    squares = sum(
        variance**2 / term.degrees for variance, (_, term) in zip(variances, terms) if variance
    )
    return Estimate(mean, total, total**2 / squares)


def difference(one: Estimate, other: Estimate) -> Estimate:
    """Of two independent estimates."""
    return combined([(1.0, one), (-1.0, other)])


def quantile_of_t(probability: float, degrees: float) -> float:
    """The quantile of Student's t distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))
