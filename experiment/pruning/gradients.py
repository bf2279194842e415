"""Gradients of the loss on S with respect to the prunable weights."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from experiment.nets.running import batch_length, device_of, evaluating, run
from experiment.nets.tensors import divided, moved
from experiment.pruning.analysis import Analysis
from experiment.pruning.losses import batch_loss


def prunable_weights(analysis: Analysis) -> dict[str, nn.Parameter]:
    """The parameter of each prunable layer's weight, by layer."""
    return {
        name: analysis.net.get_parameter(layer.parameter) for name, layer in analysis.layers.items()
    }


def loss_gradients(
    analysis: Analysis, weights: dict[str, nn.Parameter], temperature: float | None = None
) -> dict[str, Tensor]:
    """Gradient of the mean loss over S with respect to each weight."""
    return summed_gradients(weights, weighted_losses(analysis, temperature))


def summed_gradients(
    weights: dict[str, nn.Parameter], values: Iterator[Tensor]
) -> dict[str, Tensor]:
    """The sum of the gradients of some values with respect to each weight."""
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for value in values:
        gradients = torch.autograd.grad(value, list(weights.values()), materialize_grads=True)
        for name, gradient in zip(total, gradients):
            total[name] += gradient
    return total


def weighted_losses(analysis: Analysis, temperature: float | None) -> Iterator[Tensor]:
    """The loss of each batch times its share of the samples, with a graph.

    The outputs are divided by `temperature` before they reach the user's loss. They are left as
    they are without a temperature, and where the net computes the loss itself.

    Raises UserError without a loss or targets.
    """
    num_samples = sum(batch_length(inputs) for inputs, _ in analysis.batches)
    for inputs, targets in analysis.batches:
        outputs = run(analysis.net, (inputs, targets))
        targets = moved(targets, device_of(analysis.net))
        if temperature is not None and analysis.loss is not None:
            outputs = divided(outputs, temperature)
        loss = batch_loss(analysis.loss, outputs, targets)
        yield loss * (batch_length(inputs) / num_samples)


@contextlib.contextmanager
def taking_gradients(net: nn.Module, weights: dict[str, nn.Parameter]) -> Iterator[None]:
    """Within the block the net is in eval mode and these weights take gradients.

    Afterwards all is as before.
    """
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
