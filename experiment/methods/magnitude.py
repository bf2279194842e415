"""Weight thresholding: keep the largest weights."""

from torch import Tensor

from experiment.methods.method import ScoreMethod
from experiment.registry import METHODS
from experiment.seeding import Stream
from experiment.statistics import Statistics


@METHODS.register
class WT(ScoreMethod):
    """Keep the weights of largest magnitude over the whole network (Han et al. 2015, Renda et al. 2020)."""

    def scores(self, statistics: Statistics, stream: Stream) -> dict[str, Tensor]:
        return {name: weight.abs() for name, weight in statistics.weights.items()}


@METHODS.register
class WTLayer(WT):
    """Keep the weights of largest magnitude of each layer, the same share of every layer."""

    def __init__(self):
        super().__init__(allocation="uniform")
