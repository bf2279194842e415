"""SiPP, deterministic: keep the weights of largest empirical sensitivity."""

from torch import Tensor

from experiment.methods.method import ScoreMethod
from experiment.registry import METHODS
from experiment.seeding import Stream
from experiment.statistics import Statistics


@METHODS.register
class SiPP(ScoreMethod):
    """Keep the weights of largest sensitivity over the whole network, not reweighted (arXiv:1910.05422)."""

    def scores(self, statistics: Statistics, stream: Stream) -> dict[str, Tensor]:
        return statistics.sensitivities("mean")
