"""Running a net in another precision, with some of torch's functions replaced.

`Positive` makes it the surrogate in which gradients show the paths: all values stay positive, no
function is flat, and everything that may be chosen contributes.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from experiment.core.errors import UserError, first_line
from experiment.nets.normalisations import Normalisation, normalisation
from experiment.nets.running import call, evaluating
from experiment.nets.tensors import type_name

ACTIVATIONS = {
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
}
ACTIVATIONS |= {f"{name}_" for name in ACTIVATIONS}  # in place
SOFTMAX = {"softmax", "log_softmax"}
HIDDEN = -1e6  # scores below this are those that attention must not see
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
ORDERED = {"topk": 1, "sort": 0}  # -> the position of `dim` among the arguments after the input
POOLINGS = {f"{kind}max_pool{dims}d" for kind in ("", "adaptive_") for dims in (1, 2, 3)}
POOLING_OPTIONS = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")


class InPrecision(TorchFunctionMode):
    """Within the block, casts to any floating-point type give this one."""

    def __init__(self, dtype: torch.dtype = torch.float64):
        super().__init__()
        self.dtype = dtype

    def __torch_function__(
        self,
        function: Callable,
        types: tuple[type, ...],
        args: tuple = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        if name in ("float", "half", "bfloat16"):
            return args[0].to(self.dtype)
        if name in ("to", "type") and any(map(_is_floating, (*args[1:], *kwargs.values()))):
            return args[0].to(self.dtype)
        if _is_floating(kwargs.get("dtype")):
            kwargs = kwargs | {"dtype": self.dtype}
        return self.replaced(name, function, args, kwargs)

    def replaced(self, name: str, function: Callable, args: tuple, kwargs: dict) -> Any:
        """The result of a function that is not a cast."""
        return function(*args, **kwargs)


def _is_floating(value: Any) -> bool:
    return isinstance(value, torch.dtype) and value.is_floating_point


def run_in_precision(net: nn.Module, inputs: Any, mode: InPrecision) -> Any:
    """The output of a net in eval mode, with its functions replaced by a mode, in its precision.

    Raises UserError if the net does not run like this.
    """
    default = torch.get_default_dtype()
    torch.set_default_dtype(mode.dtype)
    try:
        with evaluating(net), mode:
            return call(net, inputs)
    except Exception as error:  # the net is the user's code
        raise UserError(
            f"the net does not run in {type_name(mode.dtype)} with other weights, which finding "
            f"dead parameters and channels requires: {first_line(error)}"
        ) from error
    finally:
        torch.set_default_dtype(default)


class Positive(InPrecision):
    """Within the block all values stay positive and every path carries a gradient.

    Activation functions do nothing: where they are flat, a path would seem to end. Maxima and other
    choices become means: with other weights another value would be chosen. Products are scaled to
    where other functions are not flat, and normalisations are positive scales.
    """

    def replaced(self, name: str, function: Callable, args: tuple, kwargs: dict) -> Any:
        first = args[0] if args else kwargs.get("input")
        if isinstance(first, Tensor) and first.is_floating_point():
            if name in ACTIVATIONS:
                return first
            if name in SOFTMAX:  # through which gradients can cancel
                return torch.where(first > HIDDEN, first, 0)
            if name in EXTREMES or name in ORDERED:
                return _mean_in_place_of_extreme(name, function, first, *args[1:], **kwargs)
            if name in POOLINGS:
                return _average_pooling(name, first, *args[1:], **kwargs)
        if name == "where" and _chooses_between_values(args):
            return (args[1] + args[2]) / 2
        if name == "scaled_dot_product_attention":
            return _attention(*args, **kwargs)
        if name == "multi_head_attention_forward":
            given = inspect.signature(function).bind(*args, **kwargs).arguments
            return _multi_head_attention(**given)
        normalised = normalisation(function, args, kwargs)
        if normalised is not None:
            return _scaled(normalised)
        output = function(*args, **kwargs)
        return bounded(output) if name in PRODUCTS else output


def _chooses_between_values(args: tuple) -> bool:
    """Whether the arguments of `torch.where` are a condition and two values that need gradients."""
    if len(args) != 3:
        return False
    return all(isinstance(value, Tensor) and value.requires_grad for value in args[1:])


def _mean_in_place_of_extreme(
    name: str, function: Callable, first: Tensor, *args: Any, **kwargs: Any
) -> Any:
    """The result of a maximum, minimum or the like, to which all that it compares contributes."""
    others = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
    if others:
        return (first + others[0]) / 2
    result = function(first, *args, **kwargs)
    values = result if isinstance(result, Tensor) else result.values
    dim = _dim_of(name, args, kwargs)
    if dim is None or dim == ():
        mean = first.mean()
    else:
        mean = first.mean(dim, keepdim=True)
    if values.dim() != first.dim():
        mean = mean.reshape(values.shape)
    values = values + mean
    if isinstance(result, Tensor):
        return values
    return type(result)((values, result.indices))


def _dim_of(name: str, args: tuple, kwargs: dict) -> Any:
    """The dimension along which an extreme is taken; None for all."""
    if "dim" in kwargs:
        return kwargs["dim"]
    position = ORDERED.get(name, 0)
    if len(args) > position:
        return args[position]
    return -1 if name in ORDERED else None


def _scaled(normalised: Normalisation) -> Tensor:
    """A normalisation as a positive scale: no mean is subtracted, its parameters stay on the path.

    All values over which LayerNorm, RMSNorm or GroupNorm averages contribute to each output.
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
    if normalised.bias is not None:
        scaled = scaled + normalised.bias
    return bounded(scaled)


def _attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **options: Any) -> Tensor:
    """Attention without masks, and without softmax, through which gradients can cancel."""
    queries_per_key = query.shape[-3] // key.shape[-3] if query.dim() > 3 else 1
    if queries_per_key > 1:
        key = key.repeat_interleave(queries_per_key, -3)
        value = value.repeat_interleave(queries_per_key, -3)
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
    weights: Sequence[Tensor]
    biases: Sequence[Tensor | None]
    if in_proj_weight is None or use_separate_proj_weight:
        weights = [options[f"{name}_proj_weight"] for name in "qkv"]
    else:
        weights = in_proj_weight.chunk(3)
    biases = [None] * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
    query, key, value = (
        bounded(nn.functional.linear(tokens, weight, bias))
        for tokens, weight, bias in zip((query, key, value), weights, biases)
    )
    key = _with_token(key, bias_k)
    value = _with_token(value, bias_v)
    query, key, value = (
        tokens.unflatten(-1, (num_heads, -1)).transpose(0, -2) for tokens in (query, key, value)
    )
    scores = bounded(query @ key.mT)  # heads, (samples,) tokens, tokens
    mixed = bounded(scores @ value).transpose(0, -2).flatten(-2)
    output = bounded(nn.functional.linear(mixed, out_proj_weight, out_proj_bias))
    return output, scores.mean(0)


def _with_token(tokens: Tensor, more: Tensor | None) -> Tensor:
    """Tokens [tokens, (samples,) features] with one more, the same for all samples."""
    if more is None:
        return tokens
    token = more.reshape(1, *[1] * (tokens.dim() - 2), -1).expand_as(tokens[:1])
    return torch.cat([tokens, token])


def _average_pooling(name: str, input: Tensor, *args: Any, **options: Any) -> Tensor:
    """Average pooling in place of max pooling, over all that dilated windows span."""
    average_pool = getattr(nn.functional, name.replace("max", "avg"))
    if name.startswith("adaptive"):
        return average_pool(input, args[0] if args else options["output_size"])
    given = dict(zip(POOLING_OPTIONS, args)) | options
    spatial = int(name[-2])
    sizes = _per_dimension(given["kernel_size"], spatial)
    dilations = _per_dimension(given.get("dilation", 1), spatial)
    return average_pool(
        input,
        kernel_size=[dilation * (size - 1) + 1 for size, dilation in zip(sizes, dilations)],
        stride=given.get("stride") or given["kernel_size"],
        padding=given.get("padding", 0),
        ceil_mode=given.get("ceil_mode", False),
    )


def _per_dimension(value: int | tuple[int, ...], spatial: int) -> tuple[int, ...]:
    """An option of a pooling, one number for each of the spatial dimensions."""
    return (value,) * spatial if isinstance(value, int) else tuple(value)


def bounded(output: Tensor) -> Tensor:
    """Scale to (0, 1], without changing which paths exist; zeros become one half.

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
