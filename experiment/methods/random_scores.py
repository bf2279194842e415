"""Random pruning, the baseline that every method should beat."""

import torch
from torch import Tensor

from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.pruning.analysis import Analysis
from experiment.pruning.method import ScoreMethod


@METHODS.register
class Random(ScoreMethod):
    """Keep weights at random, not reweighted.

    No paper's method: every weight is equally likely to stay, whatever its layer.
    """

    def scores(self, analysis: Analysis, stream: Stream) -> dict[str, Tensor]:
        generator, device = stream.generator(), analysis.candidates.device
        return {
            name: torch.rand(shape, generator=generator).to(device)
            for name, shape in analysis.flat.shapes.items()
        }
