"""Building a network by its name."""

from typing import Any

from torch import nn

from experiment.core.errors import UserError
from experiment.core.registry import NETWORKS
from experiment.core.text import shown
from experiment.nets.checks import image_shape, whole_number


def build_network(
    name: str, *, input_shape: tuple[int, int, int], num_classes: int, **options: Any
) -> nn.Module:
    """A new network for images of `input_shape`, initialised from torch's global generator.

    Args:
        name: a registered network, a torchvision classification model, or `package.module:Class`.
        input_shape: channels, height and width.
        options: the network's own options.

    Raises:
        UserError: for an unknown name or option, or if the network cannot be built.

    Example:
        >>> net = experiment.build_network("resnet20", input_shape=(3, 32, 32), num_classes=10)
    """
    if not isinstance(name, str):
        raise UserError(f"a network is given by its name, such as 'resnet20', not {shown(name)}")
    net = NETWORKS.create(
        name,
        options,
        input_shape=image_shape(input_shape),
        num_classes=whole_number("num_classes", num_classes, least=1),
    )
    if not isinstance(net, nn.Module):
        raise UserError(f"network {name} returned a {type(net).__name__}, not a torch.nn.Module")
    return net
