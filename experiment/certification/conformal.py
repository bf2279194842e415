"""Quantiles of errors on new images, from images that had no part in making the net.

Statement (`conformal_quantile`): with probability at least 1 - level, over the calibration images
and one more image, the score of the latter is at most the quantile.

Assumption: the images are exchangeable, as independent draws from one distribution are; nothing
about the net, the method or contributions. The score of an image must be computed in the same way
for all, here as the largest error at some random points of the image: patches of an image are not
exchangeable with those of another, so that images are what is counted.

Proof: the rank of the new score among all n + 1 is uniform, with ties at most so large, and it is
above the k-th of the others with a probability of at most 1 - k / (n + 1); k is the ceiling of
(n + 1)(1 - level) (split conformal prediction: Vovk, Gammerman, Shafer 2005, Algorithmic Learning
in a Random World; Lei et al. 2018, J. Am. Stat. Assoc. 113, Theorem 2.2, arXiv:1604.04173).

Statement (`confident_quantile`): with probability at least `confidence` over the calibration
images, at most a share `level` of all further images have a larger score.

Assumption: independent draws from one distribution.

Proof: the k-th smallest score is below the (1 - level)-quantile of the distribution only if at
least k of n scores are, which has at most the probability P(Bin(n, 1 - level) >= k) (Wilks 1941,
Ann. Math. Stat. 12; Vovk 2012, arXiv:1209.2673, Proposition 2a).

Both are infinite where there are too few images: then nothing is claimed.
"""

import math
from fractions import Fraction

import numpy
import scipy  # whose parts are imported when first used: stats takes long
import torch
from torch import Tensor


def conformal_quantile(scores: Tensor, level: float) -> Tensor:
    """What a new image's score exceeds with at most the probability `level` [...].

    `scores` are those of the calibration images [..., images].
    """
    return _order_statistic(scores, conformal_rank(scores.shape[-1], level))


def confident_quantile(scores: Tensor, level: float, confidence: float) -> Tensor:
    """What, with some confidence, at most a share `level` of new images exceeds [...]."""
    return _order_statistic(scores, confident_rank(scores.shape[-1], level, confidence))


def conformal_rank(num_images: int, level: float) -> int:
    """Which order statistic, from 1, is the conformal quantile; more than `num_images` for none."""
    exact = Fraction(str(level))  # 0.29 x 100 is 29, and not a little less
    return num_images + 1 - math.floor((num_images + 1) * exact)


def confident_rank(num_images: int, level: float, confidence: float) -> int:
    """The same for the quantile that holds with some confidence."""
    ranks = numpy.arange(1, num_images + 1)
    too_small = scipy.stats.binom.sf(ranks - 1, num_images, 1 - level)
    enough = too_small <= 1 - confidence
    return int(ranks[enough][0]) if enough.any() else num_images + 1


def fewest_images(level: float, confident: bool = False) -> int:
    """With how many calibration images a quantile is finite.

    They are 1 / level - 1; for a confidence of 1 - level, the least n with (1 - level)^n <= level.
    """
    if confident:
        return math.ceil(math.log(level) / math.log1p(-level))
    return math.ceil(1 / Fraction(str(level))) - 1


def _order_statistic(scores: Tensor, rank: int) -> Tensor:
    if rank > scores.shape[-1]:
        return torch.full(scores.shape[:-1], torch.inf, dtype=scores.dtype)
    return scores.sort(dim=-1).values[..., rank - 1]


def largest_by_image(values: Tensor, image: Tensor) -> Tensor:
    """The largest value at the points of each image [..., images].

    Args:
        values: [..., points].
        image: the number of the image of each point [points].
    """
    numbers, index = image.unique(return_inverse=True)
    result = values.new_zeros((*values.shape[:-1], len(numbers)))
    index = index.expand_as(values)
    return result.scatter_reduce(-1, index, values, "amax", include_self=False)
