"""How many samples the theory asks for."""

import math
from typing import Any

from torch import nn

from experiment.layers import find_layers, require_layers

C = 3  # the constant of SiPP's assumption on the distribution of relative contributions


def sample_size(net: nn.Module, batch: Any, delta: float = 1e-16) -> int:
    """|S| = ceil(C ln(8 eta eta_star / delta)) (arXiv:1910.05422, Section 4, with C = 3).

    eta is the sum and eta_star the maximum over prunable layers of a layer's outputs per sample; `batch` is
    run once to find them. At least 1, however large delta is.
    """
    outputs = [layer.num_outputs for layer in require_layers(find_layers(net, [batch])).prunable.values()]
    return max(1, math.ceil(C * (math.log(8 * sum(outputs) * max(outputs)) - math.log(delta))))
