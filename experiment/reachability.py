"""Which kept parameters still matter: those from which a kept path leads to the output.

A fact about the masks and the net's structure, never about data. It is read off a positive surrogate of the
net: every kept weight positive, every normalisation a positive scale, every activation function the identity, so that
a gradient is zero exactly if there is no path.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from experiment.errors import UserError
from experiment.masks import PRUNABLE, Masks
from experiment.nets import call, device_of, evaluating, first_sample, map_tensors, moved, split_batch, tensors

ACTIVATIONS = {name + suffix for suffix in ("", "_") for name in (
    "relu", "relu6", "leaky_relu", "rrelu", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish", "hardtanh",
    "hardswish", "hardsigmoid", "hardshrink", "softshrink", "tanhshrink", "softsign", "softplus", "sigmoid",
    "logsigmoid", "tanh", "threshold", "clamp", "clip", "clamp_min", "clamp_max")}
NORMALISATIONS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm)


def remove_dead(net: nn.Module, masks: Masks, example: Any, connected: Masks) -> Masks:
    """The masks less the dead parameters of prunable and normalisation layers.

    Dead are the weights into a filter or neuron from which no kept path leads to the output, with its bias and
    its normalisation's parameters. A filter that lost its inputs but passes a bias on is not dead. `example` is
    one batch for the net; only its shape counts. `connected` is what `reached` says of the whole net: what seems to
    have no path even there is never called dead.
    """
    alive = reached(net, masks, example)
    return {name: mask & (alive[name] | ~connected[name]) if name in alive and name in connected else mask
            for name, mask in masks.items()}


def reached(net: nn.Module, masks: Masks, example: Any) -> Masks:
    """From which parameters of prunable and normalisation layers a path through kept weights leads to the output.

    Rows of a weight are reached as a whole. Raises UserError if the output does not depend on the parameters.
    """
    surrogate = _surrogate(net, masks)
    with evaluating(surrogate), torch.enable_grad(), _IdentityActivations():
        inputs = moved(_positive(first_sample(split_batch(example)[0])), device_of(surrogate))
        outputs = [output for output in tensors(call(surrogate, inputs)) if output.requires_grad]
        if not outputs:
            raise UserError("the net's output has no gradient with respect to its parameters: is its forward pass run "
                            "without gradients, or does it end in an argmax?")
        generator = torch.Generator().manual_seed(0)
        total = sum((output * torch.rand(output.shape, generator=generator).to(output)).sum()
                    for output in outputs)
        total.backward()
    result, owned = {}, _owned_parameters(surrogate)
    for name, parameter in surrogate.named_parameters():
        if id(parameter) in owned and parameter.grad is not None and name in masks:
            path = (parameter.grad != 0).to(masks[name].device)
            if path.dim() > 1:  # a row's own mask does not enter its gradient
                path = path.flatten(1).any(1).reshape(-1, *[1] * (path.dim() - 1)).expand(path.shape)
            result[name] = path
    return result


def _owned_parameters(net: nn.Module) -> set[int]:
    """The ids of all parameters of prunable and normalisation layers."""
    return {id(parameter) for module in net.modules() if isinstance(module, PRUNABLE + NORMALISATIONS)
            for parameter in module.parameters(recurse=False)}


class _IdentityActivations(TorchFunctionMode):
    """Within the block activation functions do nothing: wherever they are flat, a path would seem to end."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__name__", "") in ACTIVATIONS and args:
            return args[0]
        return function(*args, **(kwargs or {}))


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
    """The example, on the CPU, with other values in its floating-point tensors."""
    return map_tensors(lambda tensor: values(tensor.shape) if tensor.is_floating_point() else tensor.cpu(), example)
