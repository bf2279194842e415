"""The constant C of the envelope C s, measured on calibration images in place of an assumption.

Statement: let C be the conformal quantile, over calibration images, of the largest g_j / s_j of a
unit at the points of an image. With probability at least 1 - level, over these images and a new
one, all contributions of the unit at the points of the new one are within C s_j. So every
consequence of the envelope holds for it, for all prunings of the unit at once, also for those that
were chosen by looking at the calibration images or at the bounds themselves.

Assumption: the calibration images and the new one are exchangeable given S: they are not in S.
Nothing about the distribution of contributions.

Proof: `conformal.py`, with the largest ratio as an image's score, and `envelope.py`, whose maximum
is over all that a pruning can do. If C is infinite, because there are too few images or because
weights contribute that never did on S, any contributions between 0 and 1 are allowed.

Without calibration images, from S alone: s_j is the largest of n contributions of exchangeable
images, so that a new image's is larger with a probability of at most 1 / (n + 1), for each weight.
"""

import torch
from torch import Tensor

from experiment.certification.certificates import Certificates
from experiment.certification.conformal import conformal_quantile, largest_by_image
from experiment.certification.fresh_points import FreshPoints


def calibrated_constants(
    certificates: Certificates, calibration: FreshPoints, level: float
) -> dict[str, Tensor]:
    """C of each unit by layer [filters, 2]; layers without points of known images are left out."""
    return {
        name: conformal_quantile(
            largest_by_image(
                calibration.largest_ratio(certificates, name), calibration.images[name]
            ),
            level,
        ).t()
        for name in calibration.layers_with_images
    }


def capacities(sensitivity: Tensor, constant: Tensor | float) -> Tensor:
    """The most that each weight contributes within an envelope: min(1, C s), of the same shape.

    `constant` is a number, or one for each row of sensitivities [rows, 1]; if infinite, anything is
    allowed.
    """
    constant = torch.as_tensor(constant, dtype=sensitivity.dtype)
    limit = torch.where(constant.isinf(), 1, constant.nan_to_num(posinf=0) * sensitivity)
    return limit.clamp(max=1)
