"""How many samples the theory requires."""

import math
from typing import Any

from torch import nn

from experiment.nets.batches import as_batch
from experiment.nets.checks import positive, usable_net
from experiment.nets.layers import find_layers, require_layers
from experiment.sensitivity.constants import DEFAULT_DELTA, C


def sample_size(net: nn.Module, batch: Any, delta: float = DEFAULT_DELTA) -> int:
    """The number of samples in S: ceil(C ln(8 eta eta_star / delta)).

    arXiv:1910.05422, Section 4, with C = 3. eta is the sum and eta_star the maximum, over prunable
    layers, of a layer's outputs per sample. The result is at least 1, however large delta is.

    Args:
        net: any module.
        batch: one batch, as `experiment.prune` takes them; it is run once to count outputs.
        delta: failure probability of the certificates, above 0.

    Raises:
        UserError: for unusable arguments, with a message that says what would be right.

    Example:
        >>> experiment.sample_size(net, torch.zeros(1, 3, 32, 32))
        183
    """
    delta = positive("delta", delta)
    found = require_layers(find_layers(usable_net(net, shapes_alone=True), [as_batch(net, batch)]))
    outputs = [layer.num_outputs for layer in found.prunable.values()]
    logarithm = math.log(8 * sum(outputs) * max(outputs)) - math.log(delta)
    return max(1, math.ceil(C * logarithm))
