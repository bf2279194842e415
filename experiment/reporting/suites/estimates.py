"""Means over nets with what is known of their error, and how they are combined.

All formulas are those of Student and of Welch and Satterthwaite: the variances of independent means
are added, and the degrees of freedom of the sum follow from those of its terms.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from experiment.reporting.comparison import quantile_of_t


@dataclass(frozen=True)
class Estimate:
    """A mean, the variance of that mean, and its degrees of freedom.

    With a single value the variance is unknown (nan), and so are the ends of intervals.
    """

    mean: float
    variance: float
    degrees: float

    def interval(self, confidence: float) -> tuple[float, float]:
        """Both ends of the confidence interval of Student's t."""
        if math.isnan(self.variance):
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
    if math.isnan(total):
        return Estimate(mean, math.nan, 0)
    if total == 0:
        return Estimate(mean, 0.0, min(term.degrees for _, term in terms))
    squares = sum(
        variance**2 / term.degrees for variance, (_, term) in zip(variances, terms) if variance
    )
    return Estimate(mean, total, total**2 / squares)


def average(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of independent estimates, which count alike."""
    return combined([(1 / len(estimates), one) for one in estimates])


def difference(one: Estimate, other: Estimate) -> Estimate:
    """Of two independent estimates."""
    return combined([(1.0, one), (-1.0, other)])
