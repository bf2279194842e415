"""A pruning method of one's own in one file, to be ranked by a suite:

python -m experiment suite small --method examples.lamp:LAMP
"""

import torch
from torch import Tensor

from experiment.core.seeding import Stream
from experiment.pruning.analysis import Analysis
from experiment.pruning.method import ScoreMethod


class LAMP(ScoreMethod):
    """Keep the weights of largest magnitude relative to those of their layer that are kept anyway.

    The score of a weight is its square over the sum of the squares of all weights of its layer that
    are at least as large (Lee et al. 2021, "Layer-adaptive Sparsity for the Magnitude-based
    Pruning", equation 4).
    """

    def scores(self, analysis: Analysis, stream: Stream) -> dict[str, Tensor]:
        return {name: lamp_scores(weight) for name, weight in analysis.weights.items()}


def lamp_scores(weight: Tensor) -> Tensor:
    """The scores of a layer's weights, in the shape of the weights."""
    squares = weight.flatten().square()
    ascending, order = squares.sort()
    at_least_as_large = ascending.flip(0).cumsum(0).flip(0)
    tiniest = torch.finfo(weight.dtype).tiny  # for a layer of zeros
    scores = torch.empty_like(squares)
    scores[order] = ascending / at_least_as_large.clamp(min=tiniest)
    return scores.reshape(weight.shape)
