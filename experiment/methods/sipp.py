"""SiPP, deterministic: keep the weights of largest empirical sensitivity."""

from torch import Tensor

from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.pruning.analysis import Analysis
from experiment.pruning.method import ScoreMethod


@METHODS.register
class SiPP(ScoreMethod):
    """Keep the weights of largest sensitivity over the whole network (arXiv:1910.05422).

    They are not reweighted.

    Departures: the relative contributions of a weight are averaged over the positions of an image
    before the maximum over S is taken, so the paper's bound only covers layers without positions;
    biases are left out of the sums.
    """

    def scores(self, analysis: Analysis, stream: Stream) -> dict[str, Tensor]:
        return analysis.sensitivities("mean")
