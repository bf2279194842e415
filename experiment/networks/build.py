"""Networks by name."""

from typing import Any

from torch import nn

from experiment.errors import UserError
from experiment.registry import NETWORKS


def build_network(name: str, *, input_shape: tuple[int, int, int], num_classes: int, **options: Any) -> nn.Module:
    """A new network for images of `input_shape` (channels, height, width), initialised from torch's generator.

    `name` is a registered one, a classification model of torchvision's, or `package.module:Class`. Raises
    UserError for an unknown name or option, and where the network cannot be built.
    """
    net = NETWORKS.create(name, options, input_shape=tuple(input_shape), num_classes=num_classes)
    if not isinstance(net, nn.Module):
        raise UserError(f"network {name} gives a {type(net).__name__}, not a torch.nn.Module")
    return net
