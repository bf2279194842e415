"""Which kept parameters still matter: those from which a kept path leads to the output.

A fact about the masks and the net's structure, never about data. It is read off a positive surrogate
of the net: every kept weight positive, every normalisation a positive scale, every activation
function the identity, so that a gradient is zero exactly if there is no path.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from experiment.core.errors import UserError, first_line
from experiment.nets.layers import PrunableLayer
from experiment.nets.masks import Masks
from experiment.nets.running import (
    copy_of,
    device_of,
    first_sample,
    map_tensors,
    moved,
    tensors,
)
from experiment.nets.surrogates import Positive, run_in_double

NORMALISATIONS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def remove_dead(
    net: nn.Module, layers: dict[str, PrunableLayer], masks: Masks, example: Any, connected: Masks
) -> Masks:
    """The masks less the dead parameters of prunable layers and normalisations.

    Dead are the weights into a filter or neuron from which no kept path leads to the output, with
    its bias and its normalisation's parameters. A filter that lost its inputs but passes a bias on
    is not dead. `example` is one batch for the net; only its shape counts. `connected` is what
    `reached` says of the whole net: what seems to have no path even there is never called dead.
    """
    alive = reached(net, layers, masks, example)
    return {
        name: mask & (alive[name] | ~connected[name])
        if name in alive and name in connected
        else mask
        for name, mask in masks.items()
    }


def reached(net: nn.Module, layers: dict[str, PrunableLayer], masks: Masks, example: Any) -> Masks:
    """From which parameters of layers and normalisations kept weights lead on to the output.

    All weights of an output are reached or none. Raises UserError if the net's output does not
    depend on its parameters.
    """
    surrogate = _surrogate(net, masks)
    inputs = moved(_positive(first_sample(example)), device_of(surrogate))
    with torch.enable_grad():
        output = run_in_double(surrogate, inputs, Positive())
        outputs = [one for one in tensors(output) if one.requires_grad]
        if not outputs:
            raise UserError(
                "the net's output has no gradient with respect to its parameters: is its forward "
                "pass run without gradients, or does it end in an argmax?"
            )
        try:
            _weighted_sum(outputs).backward()
        except Exception as error:  # of checkpointing, for instance
            raise UserError(
                "the net's output cannot be differentiated, as finding dead parameters "
                f"needs: {first_line(error)}"
            ) from error
    gradients = {
        name: parameter.grad.to(masks[name].device)
        for name, parameter in surrogate.named_parameters()
        if parameter.grad is not None
    }
    result = {name: gradients[name] != 0 for name in _vectors(net, layers) if name in gradients}
    for layer in layers.values():
        if layer.parameter in gradients:  # an output's own mask does not enter its gradients
            leads_on = layer.oriented(gradients[layer.parameter] != 0).flatten(1).any(1)
            whole = leads_on.reshape(-1, *[1] * (len(layer.shape) - 1)).expand(layer.shape)
            result[layer.parameter] = layer.oriented(whole)
    return result


def _weighted_sum(outputs: list[Tensor]) -> Tensor:
    """One number that depends on every element of the outputs, with positive random weights."""
    generator = torch.Generator().manual_seed(0)
    return sum(
        (output * torch.rand(output.shape, generator=generator).to(output)).sum()
        for output in outputs
    )


def _vectors(net: nn.Module, layers: dict[str, PrunableLayer]) -> list[str]:
    """The one-dimensional parameters of modules that own a layer's weight, and of normalisations."""
    weights = {layer.parameter for layer in layers.values()}
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    result = []
    for module in net.modules():
        own = [parameter for parameter in module._parameters.values() if parameter is not None]
        if isinstance(module, NORMALISATIONS) or any(names[id(one)] in weights for one in own):
            result += [names[id(one)] for one in own if one.dim() == 1]
    return result


def _surrogate(net: nn.Module, masks: Masks) -> nn.Module:
    """A copy in double precision whose kept weights average their inputs."""
    surrogate = copy_of(net)
    if device_of(net).type == "mps":  # which has no double precision
        surrogate = surrogate.cpu()
    surrogate = surrogate.double()
    for parameter in surrogate.parameters():
        parameter.grad = None
        parameter.requires_grad_(parameter.is_floating_point())
    with torch.no_grad():
        for name, parameter in surrogate.named_parameters():
            if name in masks:
                kept = masks[name].to(parameter)
                if kept.dim() > 1:
                    count = kept.flatten(1).sum(1).clamp(min=1)
                    kept = kept / count.reshape(-1, *[1] * (kept.dim() - 1))
                parameter.copy_(kept)
    return surrogate


def _positive(example: Any) -> Any:
    """The example with every floating-point tensor replaced by positive numbers that all differ."""
    generator = torch.Generator().manual_seed(0)
    return with_values(
        example,
        lambda shape: 0.5 + 0.5 * torch.rand(shape, generator=generator, dtype=torch.float64),
    )


def ones_like(example: Any) -> Any:
    """The example with every floating-point tensor replaced by ones in double precision, on the CPU."""
    return with_values(example, lambda shape: torch.ones(shape, dtype=torch.float64))


def with_values(example: Any, values: Callable[[torch.Size], Tensor]) -> Any:
    """The example, on the CPU, with other values in its floating-point tensors."""
    return map_tensors(
        lambda tensor: values(tensor.shape) if tensor.is_floating_point() else tensor.cpu(), example
    )
