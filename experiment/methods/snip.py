"""SNIP: keep the weights whose removal would change the loss on S most, to first order."""

from torch import Tensor

from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.pruning.analysis import Analysis
from experiment.pruning.gradients import loss_gradients, prunable_weights, taking_gradients
from experiment.pruning.method import ScoreMethod


@METHODS.register
class SNIP(ScoreMethod):
    """Keep the weights with the largest |gradient x weight| (Lee et al. 2019, equation 6).

    The paper is arXiv:1810.02340.

    Departures: the net is in eval mode, so that BatchNorm normalises by its running statistics and
    nothing is dropped out; the gradient is that of the mean loss over all of S, not of one
    mini-batch; it is taken at the weights as they are, trained or not, where the paper prunes a
    fresh initialisation.
    """

    def scores(self, analysis: Analysis, stream: Stream) -> dict[str, Tensor]:
        weights = prunable_weights(analysis)
        with taking_gradients(analysis.net, weights):
            gradients = analysis.once("gradients", lambda: loss_gradients(analysis, weights))
        return {
            name: layer.oriented((weights[name].detach() * gradients[name]).abs())
            for name, layer in analysis.layers.items()
        }
