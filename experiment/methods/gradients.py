"""Methods that score weights by gradients of the loss on S: SNIP and GraSP."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from experiment.allocation.layers import Allocation
from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.nets.running import batch_length, device_of, evaluating, run
from experiment.nets.tensors import divided, moved
from experiment.pruning.analysis import Statistics
from experiment.pruning.losses import batch_loss
from experiment.pruning.method import ScoreMethod
from experiment.pruning.second_derivatives import second_derivatives


@METHODS.register
class SNIP(ScoreMethod):
    """Keep the weights with the largest |gradient x weight| (Lee et al. 2019, equation 6).

    The paper is arXiv:1810.02340.

    Departures: the net is in eval mode, so that BatchNorm normalises by its running statistics and
    nothing is dropped out; the gradient is that of the mean loss over all of S, not of one
    mini-batch; it is taken at the weights as they are, trained or not, where the paper prunes a
    fresh initialisation.
    """

    def scores(self, statistics: Statistics, stream: Stream) -> dict[str, Tensor]:
        weights = prunable_weights(statistics)
        with gradients_of(statistics.net, weights):
            gradients = statistics.once("gradients", lambda: loss_gradients(statistics, weights))
        return {
            name: layer.oriented((weights[name].detach() * gradients[name]).abs())
            for name, layer in statistics.layers.items()
        }


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

    def __init__(self, *, allocation: Allocation = "global", temperature: float = 200.0):
        super().__init__(allocation=allocation)
        self.temperature = temperature

    def scores(self, statistics: Statistics, stream: Stream) -> dict[str, Tensor]:
        weights = prunable_weights(statistics)
        net = statistics.net
        with gradients_of(net, weights), batch_statistics(net), second_derivatives("GraSP"):
            products = statistics.once(
                f"Hessian-gradient products at temperature {self.temperature}",
                lambda: hessian_gradients(statistics, weights, self.temperature),
            )
        return {
            name: layer.oriented(weights[name].detach() * products[name])
            for name, layer in statistics.layers.items()
        }


def prunable_weights(statistics: Statistics) -> dict[str, nn.Parameter]:
    """The weights of the layers that run."""
    return {
        name: statistics.net.get_parameter(layer.parameter)
        for name, layer in statistics.layers.items()
    }


def loss_gradients(
    statistics: Statistics, weights: dict[str, nn.Parameter], temperature: float | None = None
) -> dict[str, Tensor]:
    """Gradient of the mean loss over S with respect to each weight."""
    return _summed(weights, weighted_losses(statistics, temperature))


def hessian_gradients(
    statistics: Statistics, weights: dict[str, nn.Parameter], temperature: float
) -> dict[str, Tensor]:
    """H g of the mean loss over S: the Hessian with respect to all weights times the gradient."""
    gradients = loss_gradients(statistics, weights, temperature)

    def products() -> Iterator[Tensor]:
        for loss in weighted_losses(statistics, temperature):
            own = torch.autograd.grad(
                loss, list(weights.values()), create_graph=True, materialize_grads=True
            )
            yield sum((one * gradients[name]).sum() for name, one in zip(weights, own))

    return _summed(weights, products())


def _summed(weights: dict[str, nn.Parameter], values: Iterator[Tensor]) -> dict[str, Tensor]:
    """The sum of the gradients of some values with respect to each weight."""
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for value in values:
        gradients = torch.autograd.grad(value, list(weights.values()), materialize_grads=True)
        for name, gradient in zip(total, gradients):
            total[name] += gradient
    return total


def weighted_losses(statistics: Statistics, temperature: float | None) -> Iterator[Tensor]:
    """The loss of each batch times its share of the samples, with a graph.

    Outputs are divided by a temperature, if there is one; else they reach the loss as they are, and
    so does always a loss that the net computes itself. Raises UserError without a loss or targets.
    """
    count = sum(batch_length(inputs) for inputs, _ in statistics.batches)
    for inputs, targets in statistics.batches:
        outputs = run(statistics.net, (inputs, targets))
        targets = moved(targets, device_of(statistics.net))
        if temperature is not None and statistics.loss is not None:
            outputs = divided(outputs, temperature)
        loss = batch_loss(statistics.loss, outputs, targets)
        yield loss * (batch_length(inputs) / count)


@contextlib.contextmanager
def gradients_of(net: nn.Module, weights: dict[str, nn.Parameter]) -> Iterator[None]:
    """Within the block a net is in eval mode and these weights take gradients; afterwards all is as before."""
    before = [weight.requires_grad for weight in weights.values()]
    try:
        for weight in weights.values():
            weight.requires_grad_(True)
        # The plain implementation of attention can be differentiated twice.
        with evaluating(net), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        for weight, required in zip(weights.values(), before):
            weight.requires_grad_(required)


@contextlib.contextmanager
def batch_statistics(net: nn.Module) -> Iterator[None]:
    """Within the block BatchNorm normalises by the batch, and its running statistics stay as they are."""
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
            norm.training, norm.track_running_stats = training, tracks
