"""Running a net in double precision, with some of torch's functions replaced.

`Positive` is the surrogate on which paths are read off gradients: all values stay positive, no
function is flat, and whatever may be chosen contributes.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from experiment.core.errors import UserError, first_line
from experiment.nets.normalisations import Normalisation, normalisation
from experiment.nets.running import call, evaluating

ACTIVATIONS = {
    name + suffix
    for suffix in ("", "_")
    for name in (
        "relu",
        "relu6",
        "leaky_relu",
        "rrelu",
        "prelu",
        "elu",
        "selu",
        "celu",
        "gelu",
        "silu",
        "mish",
        "hardtanh",
        "hardswish",
        "hardsigmoid",
        "hardshrink",
        "softshrink",
        "tanhshrink",
        "softsign",
        "softplus",
        "sigmoid",
        "logsigmoid",
        "tanh",
        "threshold",
        "clamp",
        "clip",
        "clamp_min",
        "clamp_max",
    )
}
SOFTMAX = {"softmax", "log_softmax"}
HIDDEN = -1e6  # below that are scores of what attention must not see
PRODUCTS = {
    "linear",
    "conv1d",
    "conv2d",
    "conv3d",
    "addmm",
    "matmul",
    "__matmul__",
    "mm",
    "bmm",
    "baddbmm",
    "einsum",
    "tensordot",
    "embedding",
    "embedding_bag",
}
EXTREMES = {"max", "min", "maximum", "minimum", "fmax", "fmin", "amax", "amin"}
ORDERED = {"topk": 1, "sort": 0}  # and the place of their dimension among the arguments
POOLINGS = {f"{kind}max_pool{dims}d" for kind in ("", "adaptive_") for dims in (1, 2, 3)}


class InDouble(TorchFunctionMode):
    """Within the block what asks for another floating-point type gets double precision."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, getattr(function, "__name__", "")
        if name in ("float", "half", "bfloat16"):
            return args[0].double()
        if name in ("to", "type") and any(map(_is_floating, (*args[1:], *kwargs.values()))):
            return args[0].double()
        if _is_floating(kwargs.get("dtype")):
            kwargs = kwargs | {"dtype": torch.float64}
        return self.replaced(name, function, args, kwargs)

    def replaced(self, name: str, function: Callable, args: tuple, kwargs: dict) -> Any:
        """The result of a function that is no cast."""
        return function(*args, **kwargs)


def _is_floating(value: Any) -> bool:
    return isinstance(value, torch.dtype) and value.is_floating_point


def run_in_double(net: nn.Module, inputs: Any, mode: InDouble) -> Any:
    """The output of a net in double precision, in eval mode, its functions replaced by a mode.

    Raises UserError where the net does not run so.
    """
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with evaluating(net), mode:
            return call(net, inputs)
    except Exception as error:  # a net is code of the user's
        raise UserError(
            f"the net does not run in double precision with other weights, as finding "
            f"dead parameters and channels needs: {first_line(error)}"
        ) from error
    finally:
        torch.set_default_dtype(default)


class Positive(InDouble):
    """Within the block all values stay positive and every path carries a gradient.

    Activation functions do nothing: wherever they are flat, a path would seem to end. Maxima and
    other choices become means: with other weights another value would be chosen. Products are
    scaled to where other functions are not flat, and normalisations are positive scales.
    """

    def replaced(self, name: str, function: Callable, args: tuple, kwargs: dict) -> Any:
        first = args[0] if args else kwargs.get("input")
        if isinstance(first, Tensor) and first.is_floating_point():
            if name in ACTIVATIONS:
                return first
            if name in SOFTMAX:  # through which gradients can cancel
                return torch.where(first > HIDDEN, first, 0)
            if name in EXTREMES or name in ORDERED:
                return _any_of(name, function, first, *args[1:], **kwargs)
            if name in POOLINGS:
                return _average_pooling(name, first, *args[1:], **kwargs)
        if (
            name == "where"
            and len(args) == 3
            and all(isinstance(one, Tensor) and one.requires_grad for one in args[1:])
        ):
            return (args[1] + args[2]) / 2
        if name == "scaled_dot_product_attention":
            return _attention(*args, **kwargs)
        if name == "multi_head_attention_forward":
            return _multi_head_attention(
                **inspect.signature(function).bind(*args, **kwargs).arguments
            )
        normalised = normalisation(function, args, kwargs)
        if normalised is not None:
            return _scaled(normalised)
        output = function(*args, **kwargs)
        return bounded(output) if name in PRODUCTS else output


def _any_of(name: str, function: Callable, first: Tensor, *args: Any, **kwargs: Any) -> Any:
    """What a maximum, minimum or the like gives, with all that it compares contributing."""
    second = next((one for one in (*args, *kwargs.values()) if isinstance(one, Tensor)), None)
    if second is not None:
        return (first + second) / 2
    found = function(first, *args, **kwargs)
    values = found if isinstance(found, Tensor) else found.values
    place, default = ORDERED.get(name, 0), -1 if name in ORDERED else None
    dim = kwargs.get("dim", args[place] if len(args) > place else default)
    mean = first.mean() if dim is None or dim == () else first.mean(dim, keepdim=True)
    values = values + (mean if values.dim() == first.dim() else mean.reshape(values.shape))
    return values if isinstance(found, Tensor) else type(found)((values, found.indices))


def _scaled(normalised: Normalisation) -> Tensor:
    """A normalisation as a positive scale: no mean is subtracted, its parameters stay on the path.

    What LayerNorm and the like average over reaches all that they put out.
    """
    scaled = normalised.input
    if normalised.groups is not None:
        grouped = scaled.unflatten(1, (normalised.groups, -1))
        mean = grouped.mean(tuple(range(2, grouped.dim())), keepdim=True)
        scaled = (grouped + mean).flatten(1, 2)
    if normalised.last_dims:
        scaled = scaled + scaled.mean(tuple(range(-normalised.last_dims, 0)), keepdim=True)
    if normalised.weight is not None:
        scaled = scaled * normalised.weight
    return bounded(scaled if normalised.bias is None else scaled + normalised.bias)


def _attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **options: Any) -> Tensor:
    """Attention without softmax, through which gradients can cancel, and without its masks."""
    groups = query.shape[-3] // key.shape[-3] if query.dim() > 3 else 1  # queries that share a key
    key, value = (one.repeat_interleave(groups, -3) if groups > 1 else one for one in (key, value))
    return bounded(bounded(query @ key.mT) @ value)


def _multi_head_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    use_separate_proj_weight: bool = False,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """The same for `nn.MultiheadAttention`, whose inputs are [tokens, (samples,) features]."""
    weights = (
        [options[f"{name}_proj_weight"] for name in "qkv"]
        if use_separate_proj_weight
        else in_proj_weight.chunk(3)
    )
    biases = [None] * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
    projected = [
        bounded(nn.functional.linear(one, weight, bias))
        for one, weight, bias in zip((query, key, value), weights, biases)
    ]
    for place, more in ((1, bias_k), (2, bias_v)):
        if more is not None:
            more = more.reshape(1, *[1] * (query.dim() - 2), -1).expand_as(projected[place][:1])
            projected[place] = torch.cat([projected[place], more])
    heads = [one.unflatten(-1, (num_heads, -1)).transpose(0, -2) for one in projected]
    scores = bounded(heads[0] @ heads[1].mT)  # heads, (samples,) tokens, tokens
    mixed = bounded(scores @ heads[2]).transpose(0, -2).flatten(-2)
    return bounded(nn.functional.linear(mixed, out_proj_weight, out_proj_bias)), scores.mean(0)


def _average_pooling(name: str, input: Tensor, *args: Any, **options: Any) -> Tensor:
    """Average pooling in the place of max pooling, over all that dilated windows span."""
    instead = getattr(nn.functional, name.replace("max", "avg"))
    if name.startswith("adaptive"):
        return instead(input, args[0] if args else options["output_size"])
    given = dict(zip(("kernel_size", "stride", "padding", "dilation", "ceil_mode"), args)) | options
    spatial = int(name[-2])
    sizes, steps = (
        [value] * spatial if isinstance(value, int) else value
        for value in (given["kernel_size"], given.get("dilation", 1))
    )
    spans = [step * (size - 1) + 1 for size, step in zip(sizes, steps)]
    stride = given.get("stride") or given["kernel_size"]
    return instead(input, spans, stride, given.get("padding", 0), given.get("ceil_mode", False))


def bounded(output: Tensor) -> Tensor:
    """Scale to (0, 1], without changing which paths exist; what is all zero becomes one half.

    A layer that saw nothing, such as an expert that nothing was sent to, has no gradient at all.
    """
    if not (isinstance(output, Tensor) and output.is_floating_point()):
        return output
    if not output.numel():
        return output.detach()
    largest = output.detach().abs().max()
    result = 0.5 + 0.5 * output / torch.where(largest > 0, largest, 1)
    if result.requires_grad:  # in deep nets products of small gradients would vanish
        result.register_hook(lambda gradient: (gradient != 0).to(gradient))
    return result
