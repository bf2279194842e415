"""Tests, on images set aside, of whether a pruned net is worse than it may be.

They are valid for any distribution of images and however the net was made, if the images are
independent draws that had no part in making it. The null hypothesis is that the expected loss is
above a limit; a small p-value speaks against it.

The loss of an image is either whether the predicted class changes (`disagreement`), or 1 where only
the unpruned net was right, -1 where only the pruned one was, and 0 elsewhere (`accuracy_drop`).
"""

import bisect
import functools
import math
from typing import get_args

import numpy
import scipy  # whose parts are imported when first used: stats takes long

from experiment.config.schema import Measure
from experiment.core.errors import UserError
from experiment.core.spelling import nearest
from experiment.core.text import shown

MEASURES: tuple[Measure, ...] = get_args(Measure)
LARGEST_BET = 0.75  # share of the capital that an image can cost
MOST_IMAGES = 2**22  # that are thought of
BISECTION = 1e-9


def losses(
    measure: Measure, before: numpy.ndarray, after: numpy.ndarray, labels: numpy.ndarray
) -> numpy.ndarray:
    """The loss of each image from the classes predicted before and after pruning (all [images])."""
    return losses_of_pairs(
        measure, changed=before != after, right_before=before == labels, right_after=after == labels
    )


def losses_of_pairs(
    measure: Measure,
    *,
    changed: numpy.ndarray,
    right_before: numpy.ndarray,
    right_after: numpy.ndarray,
) -> numpy.ndarray:
    """The loss of each image: whether its class changes, and was right before and after (bool)."""
    if measure == "disagreement":
        return changed.astype(int)
    return right_before.astype(int) - right_after.astype(int)


def p_value(measure: Measure, found: numpy.ndarray, at_most: float, confidence: float) -> float:
    """The p-value of losses [images], in an order fixed beforehand, for a limit of their mean."""
    if measure == "disagreement":
        return disagreement_p_value(int(found.sum()), len(found), at_most)
    return accuracy_drop_p_value(found, at_most, confidence)


def disagreement_p_value(num_changed: int, num_images: int, at_most: float) -> float:
    """P(Bin(n, at_most) <= num_changed), the exact test of a share."""
    return float(scipy.stats.binom.cdf(num_changed, num_images, at_most))


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


def upper_bound(measure: Measure, found: numpy.ndarray, confidence: float) -> float:
    """What the expected loss is at most with that confidence: every larger limit passes the test.

    The p-value falls as the limit rises, for shares and for bets, so that bisection finds it. For
    shares it is the bound of Clopper and Pearson (1934).
    """
    below, above = 0.0, 1.0
    while above - below > BISECTION:
        middle = (below + above) / 2
        if p_value(measure, found, middle, confidence) <= 1 - confidence:
            above = middle
        else:
            below = middle
    return above


def images_needed(
    measure: Measure, found: numpy.ndarray, at_most: float, confidence: float
) -> int | None:
    """About how many images the test would take if losses went on like these.

    With a share d of the predictions changing, a loss can be certified to about z sqrt(d / n)
    above the observed one, z the normal quantile. None if the mean loss is not below the limit.
    """
    room = at_most - float(found.mean())
    if room <= 0:
        return None
    share = float(numpy.abs(found).mean())
    width = max(0.0, float(scipy.stats.norm.ppf(confidence)))
    enough = math.ceil(share * (width / room) ** 2)
    fewest = fewest_images(measure, at_most, confidence)
    return None if fewest is None else max(fewest, enough)


def can_pass(measure: Measure, num_images: int, at_most: float, confidence: float) -> bool:
    """Whether a net that predicts just what the unpruned one does would pass the test."""
    if num_images == 0:
        return False
    unchanged = numpy.zeros(num_images, dtype=int)
    return p_value(measure, unchanged, at_most, confidence) <= 1 - confidence


@functools.cache
def fewest_images(measure: Measure, at_most: float, confidence: float) -> int | None:
    """The number of images from which on `can_pass`; None if there are millions of them."""
    most = 1
    while not can_pass(measure, most, at_most, confidence):
        most *= 2
        if most > MOST_IMAGES:
            return None
    return bisect.bisect_left(
        range(most + 1),
        True,
        lo=most // 2 + 1,
        key=lambda count: can_pass(measure, count, at_most, confidence),
    )


def require_measure(measure: str) -> None:
    """Raise UserError for a loss that there is not."""
    if measure not in MEASURES:
        raise UserError(
            f"measure {shown(measure)}: there is {' and '.join(MEASURES)}"
            f"{nearest(measure, MEASURES)}"
        )
