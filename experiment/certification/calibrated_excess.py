"""How far contributions go beyond the envelope C s, measured instead of assumed.

Statement: let x be the conformal quantile, over calibration images, of the largest excess
sum_j max(0, g_j - C s_j) of a unit at some random points of an image. With probability at least
1 - level, over these images and a new one, the unit's excess is at most x at as many random points
of the new one. So `worst_case` with this x holds for it, for all prunings of the unit at once, also
for those that were chosen by looking at the calibration images or at the bounds themselves.

Assumption: the calibration images and the new one are exchangeable given S: they are not in S.
Nothing about the distribution of contributions: any C will do, and C = 1 needs little excess.

Proof: `conformal.py`, with the largest excess as an image's score, and `envelope.py`, whose maximum
is over all that a pruning can do to the unit's error.

Why C = 1 needs little, from S alone: s_j is the largest contribution of weight j over n
exchangeable images, so that a new image's is larger with a probability of at most 1 / (n + 1).
"""

from torch import Tensor

from experiment.certification.certificates import Certificates
from experiment.certification.conformal import conformal_quantile, largest_by_image
from experiment.certification.fresh_points import FreshPoints

ENVELOPE = 1.0  # C


def calibrated_excess(
    certificates: Certificates, calibration: FreshPoints, level: float
) -> dict[str, Tensor]:
    """x of each unit by layer [filters, 2]; layers without points of known images are left out."""
    result = {}
    for name in calibration.layers_with_images:
        excess = calibration.excess(certificates, ENVELOPE, name)
        scores = largest_by_image(excess, calibration.images[name])
        result[name] = conformal_quantile(scores, level).t()
    return result
