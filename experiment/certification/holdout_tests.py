"""Tests, on images set aside, of whether a pruned net is worse than it may be.

They are valid for any distribution of images and however the net was made, if the images are
independent draws that had no part in making it. The null hypothesis is that the expected loss is
above a limit; a small p-value speaks against it.

The loss of an image is either whether the predicted class changes (`disagreement`), or 1 where only
the unpruned net was right, -1 where only the pruned one was, and 0 elsewhere (`accuracy_drop`).
"""

import math
from typing import Literal, get_args

import numpy
from scipy import stats

from experiment.core.errors import UserError
from experiment.core.spelling import nearest
from experiment.core.text import shown

Measure = Literal["accuracy_drop", "disagreement"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
LARGEST_BET = 0.75  # share of the capital that an image can cost
WIDTH = (
    1.6  # a drop can be certified to about WIDTH sqrt(share that changes / images) above its own
)


def losses(
    measure: Measure, before: numpy.ndarray, after: numpy.ndarray, labels: numpy.ndarray
) -> numpy.ndarray:
    """The loss of each image from the classes predicted before and after pruning (all [images])."""
    if measure == "disagreement":
        return (before != after).astype(int)
    return (before == labels).astype(int) - (after == labels).astype(int)


def p_value(measure: Measure, found: numpy.ndarray, at_most: float, confidence: float) -> float:
    """The p-value of losses [images], in an order fixed beforehand, for a limit of their mean."""
    if measure == "disagreement":
        return disagreement_p_value(int(found.sum()), len(found), at_most)
    return accuracy_drop_p_value(found, at_most, confidence)


def disagreement_p_value(num_changed: int, num_images: int, at_most: float) -> float:
    """P(Bin(n, at_most) <= num_changed), the exact test of a share."""
    return float(stats.binom.cdf(num_changed, num_images, at_most))


def accuracy_drop_p_value(drops: numpy.ndarray, at_most: float, confidence: float) -> float:
    """A test by betting, which adapts to the variance (Waudby-Smith and Ramdas 2023).

    With X = (1 - drop) / 2 and m = (1 - at_most) / 2, the capital of somebody who bets on X > m,
    with stakes that depend on earlier images only, grows without limit only by chance if E X <= m:
    1 / (the most it ever is) is a p-value (Ville's inequality).

    Args:
        drops: -1, 0 or 1 for each image [..., images]; leading dimensions are repetitions.
        at_most: the limit of the expected drop.
        confidence: for which the bets are made; the p-value is valid for any.

    Returns:
        A number, or an array for repetitions.
    """
    values = (1 - drops) / 2
    null = (1 - at_most) / 2
    count = numpy.arange(1, values.shape[-1] + 1)
    means = (0.5 + values.cumsum(-1)) / (count + 1)
    variances = (0.25 + ((values - means) ** 2).cumsum(-1)) / (count + 1)
    first = numpy.full((*values.shape[:-1], 1), 0.25)
    before = numpy.concatenate([first, variances[..., :-1]], axis=-1)
    stakes = numpy.sqrt(2 * math.log(1 / (1 - confidence)) / (before * len(count)))
    stakes = numpy.minimum(stakes, LARGEST_BET / null)
    capital = numpy.log1p(stakes * (values - null)).cumsum(-1)
    result = numpy.exp(-numpy.maximum(capital.max(-1), 0))
    return float(result) if result.ndim == 0 else result


def images_needed(found: numpy.ndarray, at_most: float) -> int | None:
    """About how many images the test of an accuracy drop like this one would take.

    None if the drop itself is not below the limit.
    """
    room = at_most - float(found.mean())
    if room <= 0:
        return None
    share = float(numpy.abs(found).mean())
    return max(1, math.ceil(share * (WIDTH / room) ** 2))


def require_measure(measure: str) -> None:
    """Raise UserError for a loss that there is not."""
    if measure not in MEASURES:
        raise UserError(
            f"measure {shown(measure)}: there is {' and '.join(MEASURES)}"
            f"{nearest(measure, MEASURES)}"
        )
