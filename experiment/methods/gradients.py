"""Methods that score weights by gradients of the loss on S: SNIP and GraSP."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from experiment.errors import UserError
from experiment.masks import prunable_layers
from experiment.methods.method import ScoreMethod
from experiment.nets import call, device_of, evaluating, moved, split_batch
from experiment.registry import METHODS
from experiment.seeding import Stream
from experiment.statistics import Statistics


@METHODS.register
class SNIP(ScoreMethod):
    """Keep the weights with the largest |gradient x weight| (Lee et al. 2019, equation 6), the net in eval mode."""

    def scores(self, statistics: Statistics, stream: Stream) -> dict[str, Tensor]:
        weights = prunable_weights(statistics)
        gradients = statistics.once("gradients", lambda: loss_gradients(statistics, weights))
        return {name: (weights[name].detach() * gradients[name]).abs() for name in weights}


@METHODS.register
class GraSP(ScoreMethod):
    """Keep the weights whose removal would reduce the gradient norm most: the largest w x Hg (Wang et al. 2020,
    equation 8, whose score is the negative of it), the net in eval mode."""

    def scores(self, statistics: Statistics, stream: Stream) -> dict[str, Tensor]:
        weights = prunable_weights(statistics)
        products = statistics.once("Hessian-gradient products", lambda: hessian_gradients(statistics, weights))
        return {name: weights[name].detach() * products[name] for name in weights}


def prunable_weights(statistics: Statistics) -> dict[str, nn.Parameter]:
    """The weights of the layers that run."""
    layers = prunable_layers(statistics.net)
    return {name: layers[name].weight for name in statistics.layers}


def loss_gradients(statistics: Statistics, weights: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """Gradient of the mean loss over S with respect to each weight."""
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    with gradients_of(statistics.net, weights):
        for loss in weighted_losses(statistics):
            for name, gradient in zip(total, torch.autograd.grad(loss, list(weights.values()))):
                total[name] += gradient
    return total


def hessian_gradients(statistics: Statistics, weights: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """H g of the mean loss over S: the Hessian with respect to all weights times the gradient."""
    gradients = statistics.once("gradients", lambda: loss_gradients(statistics, weights))
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    with gradients_of(statistics.net, weights):
        for loss in weighted_losses(statistics):
            own = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
            product = sum((one * gradients[name]).sum() for name, one in zip(weights, own))
            for name, gradient in zip(total, torch.autograd.grad(product, list(weights.values()))):
                total[name] += gradient
    return total


def weighted_losses(statistics: Statistics) -> Iterator[Tensor]:
    """The loss of each batch, times its share of the samples, with a graph. Raises UserError without targets."""
    if statistics.loss is None:
        raise UserError("this method uses gradients: it needs loss=..., a function of outputs and targets")
    count = sum(len(split_batch(batch)[1]) if split_batch(batch)[1] is not None else 0 for batch in statistics.batches)
    for batch in statistics.batches:
        inputs, targets = moved(split_batch(batch), device_of(statistics.net))
        if targets is None:
            raise UserError("this method uses gradients: batches must be (inputs, targets)")
        yield statistics.loss(call(statistics.net, inputs), targets) * (len(targets) / count)


@contextlib.contextmanager
def gradients_of(net: nn.Module, weights: dict[str, nn.Parameter]) -> Iterator[None]:
    """Within the block a net is in eval mode and these weights take gradients; afterwards all is as before."""
    before = [weight.requires_grad for weight in weights.values()]
    try:
        for weight in weights.values():
            weight.requires_grad_(True)
        with evaluating(net), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # which can be derived twice
            yield
    finally:
        for weight, required in zip(weights.values(), before):
            weight.requires_grad_(required)
