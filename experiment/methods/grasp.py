"""GraSP: keep the weights whose removal would reduce the norm of the loss's gradient most."""

import contextlib
from collections.abc import Iterator
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from experiment.allocation.layers import Allocation
from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.pruning.analysis import Analysis
from experiment.pruning.gradients import (
    loss_gradients,
    prunable_weights,
    summed_gradients,
    taking_gradients,
    weighted_losses,
)
from experiment.pruning.method import ScoreMethod
from experiment.pruning.second_derivatives import second_derivatives


@METHODS.register
class GraSP(ScoreMethod):
    """Keep the weights whose removal would reduce the gradient norm most: the largest w x Hg.

    Wang et al. 2020, arXiv:2002.07376, equation 8, whose score is the negative of it.
    As there, BatchNorm normalises by the batch, and outputs are divided by a temperature, here
    every floating-point tensor of them. Made for nets that are not trained yet: near a minimum the
    gradient whose norm is preserved is noise.

    Departures: the batches are those of S as they come, not a fixed number of images of
    each class; all but BatchNorm is in eval mode, so that nothing is dropped out.
    """

    def __init__(
        self,
        *,
        allocation: Allocation = "global",
        temperature: Annotated[float, Field(gt=0)] = 200.0,
    ):
        super().__init__(allocation=allocation)
        self.temperature = temperature

    def scores(self, analysis: Analysis, stream: Stream) -> dict[str, Tensor]:
        net = analysis.net
        weights = prunable_weights(analysis)
        with taking_gradients(net, weights), batch_statistics(net), second_derivatives("GraSP"):
            products = analysis.once(
                f"Hessian-gradient products at temperature {self.temperature}",
                lambda: hessian_gradients(analysis, weights, self.temperature),
            )
        return {
            name: layer.oriented(weights[name].detach() * products[name])
            for name, layer in analysis.layers.items()
        }


def hessian_gradients(
    analysis: Analysis, weights: dict[str, nn.Parameter], temperature: float
) -> dict[str, Tensor]:
    """H g of the mean loss over S: the Hessian with respect to all weights times the gradient."""
    gradients = loss_gradients(analysis, weights, temperature)

    def sums_of_products() -> Iterator[Tensor]:
        """For each batch its gradient times g, held constant: differentiated and summed, H g."""
        for loss in weighted_losses(analysis, temperature):
            own = torch.autograd.grad(
                loss, list(weights.values()), create_graph=True, materialize_grads=True
            )
            products = ((one * gradients[name]).sum() for name, one in zip(weights, own))
            yield sum(products, loss.new_zeros(()))

    return summed_gradients(weights, sums_of_products())


@contextlib.contextmanager
def batch_statistics(net: nn.Module) -> Iterator[None]:
    """Within the block BatchNorm normalises by the batch; its running statistics do not change."""
    norms = [
        module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
    before = [(norm.training, norm.track_running_stats) for norm in norms]
    for norm in norms:
        norm.train()
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm, (training, tracks) in zip(norms, before):
            norm.training = training
            norm.track_running_stats = tracks
