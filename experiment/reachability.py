"""Which kept parameters still matter: those from which a kept path leads to the output.

A fact about the masks and the net's structure, never about data. It is read off a positive surrogate
of the net: every kept weight positive, every normalisation a positive scale, every activation
function the identity, so that a gradient is zero exactly if there is no path.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from experiment.errors import UserError
from experiment.layers import PrunableLayer
from experiment.masks import Masks
from experiment.nets import (
    call,
    copy_of,
    device_of,
    evaluating,
    first_sample,
    map_tensors,
    moved,
    split_batch,
    tensors,
)
from experiment.normalisations import Normalisation, normalisation

ACTIVATIONS = {name + suffix for suffix in ("", "_") for name in (
    "relu", "relu6", "leaky_relu", "rrelu", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish",
    "hardtanh", "hardswish", "hardsigmoid", "hardshrink", "softshrink", "tanhshrink", "softsign",
    "softplus", "sigmoid", "logsigmoid", "tanh", "threshold", "clamp", "clip", "clamp_min",
    "clamp_max")}
SOFTMAX = {"softmax", "log_softmax"}
PRODUCTS = {"linear", "conv1d", "conv2d", "conv3d", "addmm", "matmul", "__matmul__", "mm", "bmm"}
MAXIMA = {"max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d",
          "adaptive_max_pool3d"}
NORMALISATIONS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def remove_dead(net: nn.Module, layers: dict[str, PrunableLayer], masks: Masks, example: Any,
                connected: Masks) -> Masks:
    """The masks less the dead parameters of prunable layers and normalisations.

    Dead are the weights into a filter or neuron from which no kept path leads to the output, with
    its bias and its normalisation's parameters. A filter that lost its inputs but passes a bias on
    is not dead. `example` is one batch for the net; only its shape counts. `connected` is what
    `reached` says of the whole net: what seems to have no path even there is never called dead.
    """
    alive = reached(net, layers, masks, example)
    return {name: mask & (alive[name] | ~connected[name]) if name in alive and name in connected
            else mask for name, mask in masks.items()}


def reached(net: nn.Module, layers: dict[str, PrunableLayer], masks: Masks, example: Any) -> Masks:
    """From which parameters of layers and normalisations kept weights lead on to the output.

    All weights of an output are reached or none. Raises UserError if the net's output does not
    depend on its parameters.
    """
    surrogate = _surrogate(net, masks)
    inputs = moved(_positive(first_sample(split_batch(example)[0])), device_of(surrogate))
    with evaluating(surrogate), torch.enable_grad(), _Positive():
        outputs = [output for output in tensors(call(surrogate, inputs)) if output.requires_grad]
        if not outputs:
            raise UserError(
                "the net's output has no gradient with respect to its parameters: is its forward "
                "pass run without gradients, or does it end in an argmax?")
        _weighted_sum(outputs).backward()
    gradients = {name: parameter.grad.to(masks[name].device)
                 for name, parameter in surrogate.named_parameters() if parameter.grad is not None}
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
    return sum((output * torch.rand(output.shape, generator=generator).to(output)).sum()
               for output in outputs)


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
                count = kept.flatten(1).sum(1).clamp(min=1) if kept.dim() > 1 else torch.ones(1)
                parameter.copy_(kept / count.reshape(-1, *[1] * (kept.dim() - 1)).to(kept))
    return surrogate


class _Positive(TorchFunctionMode):
    """Within the block all values stay positive and every path carries a gradient.

    Activation functions do nothing: wherever they are flat, a path would seem to end. Maxima become
    means: any of the values compared may be the largest. Products are scaled to where other
    functions are not flat, and normalisations are positive scales.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, getattr(function, "__name__", "")
        if name in ACTIVATIONS | SOFTMAX:
            return args[0] if args else kwargs["input"]
        normalised = normalisation(function, args, kwargs)
        if normalised is not None:
            return _scaled(normalised)
        if name == "scaled_dot_product_attention":
            return _attention(*args, **kwargs)
        if name in MAXIMA:
            return _mean_instead(name, *args, **kwargs)
        if name == "amax":
            return torch.mean(*args, **kwargs)
        output = function(*args, **kwargs)
        return _bounded(output) if name in PRODUCTS else output


def _scaled(call: Normalisation) -> Tensor:
    """A normalisation as a positive scale: no mean is subtracted, its parameters stay on the path."""
    scaled = call.input if call.weight is None else call.input * call.weight
    return _bounded(scaled if call.bias is None else scaled + call.bias)


def _attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **options: Any) -> Tensor:
    """Attention without softmax, through which gradients can cancel, and without its masks."""
    groups = query.shape[-3] // key.shape[-3] if query.dim() > 3 else 1  # queries that share a key
    key, value = (one.repeat_interleave(groups, -3) if groups > 1 else one for one in (key, value))
    return _bounded(_bounded(query @ key.mT) @ value)


def _mean_instead(name: str, input: Tensor, *args: Any, **options: Any) -> Tensor:
    """Average pooling in the place of max pooling, over all that dilated windows span."""
    instead = getattr(nn.functional, name.replace("max", "avg"))
    if name.startswith("adaptive"):
        return instead(input, args[0] if args else options["output_size"])
    given = dict(zip(("kernel_size", "stride", "padding", "dilation", "ceil_mode"), args)) | options
    spatial = int(name[-2])
    sizes, steps = ([value] * spatial if isinstance(value, int) else value
                    for value in (given["kernel_size"], given.get("dilation", 1)))
    spans = [step * (size - 1) + 1 for size, step in zip(sizes, steps)]
    stride = given.get("stride") or given["kernel_size"]
    return instead(input, spans, stride, given.get("padding", 0), given.get("ceil_mode", False))


def _bounded(output: Tensor) -> Tensor:
    """Scale to (0, 1], without changing which paths exist; what is all zero becomes one half."""
    if not (isinstance(output, Tensor) and output.is_floating_point() and output.numel()):
        return output
    largest = output.detach().abs().max()
    bounded = 0.5 + 0.5 * output / torch.where(largest > 0, largest, 1)
    if bounded.requires_grad:  # in deep nets products of small gradients would vanish
        bounded.register_hook(lambda gradient: (gradient != 0).to(gradient))
    return bounded


def _positive(example: Any) -> Any:
    """The example with every floating-point tensor replaced by positive numbers that all differ."""
    generator = torch.Generator().manual_seed(0)
    return with_values(example, lambda shape: 0.5 + 0.5 * torch.rand(
        shape, generator=generator, dtype=torch.float64))


def ones_like(example: Any) -> Any:
    """The example with every floating-point tensor replaced by ones in double precision, on the CPU."""
    return with_values(example, lambda shape: torch.ones(shape, dtype=torch.float64))


def with_values(example: Any, values: Callable[[torch.Size], Tensor]) -> Any:
    """The example, on the CPU, with other values in its floating-point tensors."""
    return map_tensors(lambda tensor: values(tensor.shape) if tensor.is_floating_point()
                       else tensor.cpu(), example)
