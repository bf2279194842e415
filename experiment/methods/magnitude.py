"""Weight thresholding: keep the largest weights."""

from torch import Tensor

from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.pruning.analysis import Analysis
from experiment.pruning.method import ScoreMethod


@METHODS.register
class WT(ScoreMethod):
    """Keep the weights of largest magnitude over the whole network.

    Departures: Han et al. 2015 have a threshold for each layer, a multiple of its weights' standard
    deviation; one for all layers, as in Renda et al. 2020, says nothing about retraining.
    """

    def scores(self, analysis: Analysis, stream: Stream) -> dict[str, Tensor]:
        return {name: weight.abs() for name, weight in analysis.weights.items()}


@METHODS.register
class WTLayer(WT):
    """Keep the weights of largest magnitude of each layer, the same share of every layer.

    Departures: the thresholds of Han et al. 2015 leave every layer a share of its own.
    """

    def __init__(self) -> None:
        super().__init__(allocation="uniform")
