"""Which kept parameters still matter: those from which a kept path leads to the output.

A fact about the masks and the net's structure, never about data. It is read off a positive surrogate of the
net: every kept weight positive, every activation positive, so that a gradient is zero exactly if there is no
path.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from experiment.masks import PRUNABLE, Masks
from experiment.nets import call, device_of, evaluating, first_sample, moved, split_batch, tensors

NORMALISATIONS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm)


def remove_dead(net: nn.Module, masks: Masks, example: Any) -> Masks:
    """The masks less the dead parameters of prunable and normalisation layers.

    Dead are the weights into a filter or neuron from which no kept path leads to the output, with its bias and
    its normalisation's parameters. A filter that lost its inputs but passes a bias on is not dead. `example` is
    one batch for the net; only its shape counts.
    """
    surrogate = _surrogate(net, masks)
    with evaluating(surrogate), torch.enable_grad():
        inputs = moved(_positive(first_sample(split_batch(example)[0])), device_of(surrogate))
        outputs = tensors(call(surrogate, inputs))
        generator = torch.Generator().manual_seed(0)
        total = sum((output * torch.rand(output.shape, generator=generator).to(output)).sum()
                    for output in outputs if output.requires_grad)
        total.backward()
    result = dict(masks)
    gradients = {name: parameter.grad for name, parameter in surrogate.named_parameters()}
    for name in _owned_parameters(surrogate):
        if gradients[name] is not None and name in masks:
            reached = (gradients[name] != 0).to(masks[name].device)
            if reached.dim() > 1:  # a row of a weight lives as a whole: its own mask does not enter its gradient
                reached = reached.flatten(1).any(1).reshape(-1, *[1] * (reached.dim() - 1))
            result[name] = masks[name] & reached
    return result


def _owned_parameters(net: nn.Module) -> list[str]:
    """Names of all parameters of prunable and normalisation layers."""
    return [f"{prefix}.{name}" if prefix else name for prefix, module in net.named_modules()
            if isinstance(module, PRUNABLE + NORMALISATIONS) for name in module._parameters
            if module._parameters[name] is not None]


def _surrogate(net: nn.Module, masks: Masks) -> nn.Module:
    """A copy in double precision whose kept weights average their inputs and whose activations lie in (0, 1]."""
    surrogate = copy.deepcopy(net)
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
                share = kept.flatten(1).sum(1).clamp(min=1).reshape(-1, *[1] * (kept.dim() - 1)) \
                    if kept.dim() > 1 else 1
                parameter.copy_(kept / share)
    for module in surrogate.modules():
        if isinstance(module, NORMALISATIONS):
            module.register_forward_hook(_scale_instead)
        elif isinstance(module, PRUNABLE):
            module.register_forward_hook(lambda module, inputs, output: _bounded(output))
    return surrogate


def _scale_instead(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
    """A normalisation as a positive scale: no mean is subtracted, and its parameters stay on the path."""
    weight = getattr(module, "weight", None)
    if weight is None:
        return _bounded(inputs[0])
    shape = weight.shape if isinstance(module, nn.LayerNorm) else (-1, *[1] * (inputs[0].dim() - 2))
    scaled = inputs[0] * weight.reshape(shape)
    return _bounded(scaled if module.bias is None else scaled + module.bias.reshape(shape))


def _bounded(output: Tensor) -> Tensor:
    """Scale to (0, 1], far from where any activation function is flat, without changing which paths exist."""
    return 0.5 + 0.5 * output / output.detach().abs().max().clamp(min=1e-300)


def _positive(example: Any) -> Any:
    """The example with every floating-point tensor replaced by positive numbers that all differ."""
    generator = torch.Generator().manual_seed(0)
    return with_values(example, lambda shape: 0.5 + 0.5 * torch.rand(shape, generator=generator, dtype=torch.float64))


def ones_like(example: Any) -> Any:
    """The example with every floating-point tensor replaced by ones in double precision, on the CPU."""
    return with_values(example, lambda shape: torch.ones(shape, dtype=torch.float64))


def with_values(example: Any, values: Callable[[torch.Size], Tensor]) -> Any:
    """The example, which may nest lists, tuples and dicts, with other values in its floating-point tensors."""
    if isinstance(example, Tensor):
        return values(example.shape) if example.is_floating_point() else example.cpu()
    if isinstance(example, dict):
        return {key: with_values(value, values) for key, value in example.items()}
    if isinstance(example, list | tuple):
        return type(example)(with_values(value, values) for value in example)
    return example
