"""How many samples the theory asks for."""

import math
from typing import Any

from torch import nn

from experiment.errors import UserError
from experiment.metrics import outputs_per_sample

C = 3  # the constant of SiPP's assumption on the distribution of relative contributions


def sample_size(net: nn.Module, batch: Any, delta: float = 1e-16) -> int:
    """|S| = ceil(C ln(8 eta eta_star / delta)) (arXiv:1910.05422, Section 4, with C = 3).

    eta is the sum and eta_star the maximum over prunable layers of a layer's outputs per sample; `batch` is
    run once to find them. At least 1, however large delta is.
    """
    outputs = outputs_per_sample(net, batch).values()
    if not outputs:
        raise UserError("the net runs no linear or convolutional layer: there is nothing to prune")
    return max(1, math.ceil(C * (math.log(8 * sum(outputs) * max(outputs)) - math.log(delta))))
