"""Offer torchvision's classification models as networks under the names they have there.

They are untrained, and adapted to the channels and classes of the images. This module is imported
only when a name is asked for that no other network has, since torchvision takes seconds to import.
"""

import functools
import inspect
from typing import Any

import torch
import torchvision.models
from torch import nn
from torch.func import functional_call

from experiment.core.errors import UserError
from experiment.core.registry import NETWORKS, Collection
from experiment.nets.running import evaluating

# What the framework decides: pretrained weights would need a download, and auxiliary classifiers
# would give several outputs.
DECIDED = {"weights": None, "progress": False, "aux_logits": False, "init_weights": True}
GIVEN = ("num_classes", "image_size", "input_size")
YAML_TYPES = (bool, int, float, str)


def options_of(name: str) -> dict[str, type]:
    """The options of a model, with their types.

    They are the plain keyword arguments of its class, except those given or decided here.
    """
    model = inspect.signature(torchvision.models.get_model_builder(name)).return_annotation
    parameters = inspect.signature(model, eval_str=True).parameters
    options = {
        key: parameter.annotation
        for key, parameter in parameters.items()
        if parameter.annotation in YAML_TYPES and parameter.default is not parameter.empty
    }
    if "replace_stride_with_dilation" in parameters:
        options["replace_stride_with_dilation"] = list[bool]
    for key in (*DECIDED, *GIVEN):
        options.pop(key, None)
    return options


class Builder:
    """Builds a model; the model's options are parameters of its signature.

    An option's default, None, stands for torchvision's own default.
    """

    def __init__(self, name: str):
        self.name = name
        self.__signature__ = _signature(options_of(name))

    def __call__(
        self, *, input_shape: tuple[int, int, int], num_classes: int, **options: object
    ) -> nn.Module:
        return build_model(self.name, input_shape, num_classes, options)


def _signature(options: dict[str, type]) -> inspect.Signature:
    """What `inspect.signature` says of the builder of a model with these options."""
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(key, kind) for key in ("input_shape", "num_classes")]
    for key, annotation in options.items():
        parameters.append(inspect.Parameter(key, kind, default=None, annotation=annotation | None))
    return inspect.Signature(parameters)


def build_model(
    name: str, input_shape: tuple[int, int, int], num_classes: int, options: dict[str, Any]
) -> nn.Module:
    """An untrained model.

    Raises UserError where the options, the channels or the size of the images do not fit.
    """
    chosen = {key: value for key, value in options.items() if value is not None}
    try:
        net = torchvision.models.get_model(
            name, **_arguments(name, input_shape, num_classes), **chosen
        )
    except (TypeError, ValueError, AssertionError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"network {name}: torchvision cannot build it for images of {_size(input_shape)} "
            f"with the options {chosen or 'none'}: {reason}"
        ) from error
    if input_shape[0] != 3:
        _adapt_first_conv(name, net, input_shape[0])
    _require_fit(name, net, input_shape)
    return net


def _arguments(name: str, input_shape: tuple[int, int, int], num_classes: int) -> dict[str, Any]:
    """The arguments that the framework passes to the model's constructor, if it has them."""
    model = inspect.signature(torchvision.models.get_model_builder(name)).return_annotation
    asked = inspect.signature(model).parameters
    _, height, width = input_shape
    if "image_size" in asked and height != width:
        raise UserError(f"network {name} takes square images only, not {height}x{width}")
    given = {
        **DECIDED,
        "num_classes": num_classes,
        "image_size": height,
        "input_size": (height, width),
    }
    return {
        key: value for key, value in given.items() if key in ("weights", "progress") or key in asked
    }


def _adapt_first_conv(name: str, net: nn.Module, channels: int) -> None:
    """Give the first convolution another number of input channels, and torch's default weights."""
    convs = (module for module in net.modules() if isinstance(module, nn.Conv2d))
    conv = next(convs, None)
    if conv is None or conv.in_channels != 3 or conv.groups != 1:
        raise UserError(
            f"network {name} cannot be adapted to images of {channels} channels: "
            f"it does not begin with a plain convolution of 3 channels"
        )
    conv.in_channels = channels
    conv.weight = nn.Parameter(torch.empty(conv.out_channels, channels, *conv.kernel_size))
    conv.reset_parameters()


def _require_fit(name: str, net: nn.Module, input_shape: tuple[int, int, int]) -> None:
    """Raise UserError unless images of this size pass through the net; runs it on shapes alone."""
    shapes = {
        key: tensor.to("meta") for key, tensor in [*net.named_parameters(), *net.named_buffers()]
    }
    try:
        with evaluating(net), torch.no_grad():
            functional_call(net, shapes, torch.empty(1, *input_shape, device="meta"))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UserError(
            f"network {name} cannot take images of {_size(input_shape)}: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error


def _size(input_shape: tuple[int, int, int]) -> str:
    return "x".join(map(str, input_shape))


NETWORKS.fall_back_on(
    Collection(
        "all of torchvision's classification models, such as resnet18 or mobilenet_v2",
        tuple(torchvision.models.list_models(module=torchvision.models)),
        functools.cache(Builder),
    )
)
