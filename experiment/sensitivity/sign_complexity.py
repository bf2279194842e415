"""Sign complexity: by how much the terms of a neuron's sum cancel, at most over a sample.

For a neuron with terms w_j a_j and the additive term b (a bias, and a BatchNorm's shift),

    Delta = sum_j |w_j a_j| / |sum_j w_j a_j + b|.

If both the positive and the negative terms are known up to a relative error e, and b exactly, the
absolute error is at most e sum_j |w_j a_j|, so the neuron is known up to the relative error
e Delta. Delta is at least 1 without an additive term, and 1 if all terms have the same sign.

arXiv:1804.05345, as far as it could be confirmed: there Delta has no additive term b, and a
layer's Delta is the largest over its neurons of the mean over S, plus
kappa = sqrt(2 lambda) (1 + sqrt(2 lambda) ln(8 eta eta_star / delta)), lambda = ln(eta eta_star) /
2, which with an assumption on the distribution of Delta makes it a bound for a new sample. Its
definition and kappa were found in an independent implementation of the paper alone; the text of
arXiv:1910.05422 could not be checked. For LeNet-300-100 and delta = 1e-16 kappa is about 600.

Departure: a layer's Delta is here the largest over S, and over the positions of an image, too. The
mean bounds nothing, not even for the samples of S themselves, whereas the largest makes the theorem
true, without any assumption on the distribution, for every sample whose sign complexities are not
larger than those of S. How many are can be measured (`certification/network_theorem.py`).
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from experiment.nets.feed_forward import FeedForward, Sums


def complexities(sums: Sums) -> Tensor:
    """Delta of each output of a layer [samples, ...]; 0 where all terms are 0."""
    ratios = sums.absolute / sums.outputs.abs()
    return torch.where(sums.absolute > 0, ratios, 0)


def sign_complexities(chain: FeedForward, batches: Iterable[Any]) -> dict[str, float]:
    """The largest Delta of each layer of a chain, from the input to the output."""
    largest = dict.fromkeys(chain.layers, 0.0)

    def visit(sums: Sums) -> None:
        largest[sums.layer] = max(largest[sums.layer], float(complexities(sums).max()))

    for batch in batches:
        chain.run(batch, visit)
    return largest
