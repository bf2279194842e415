"""Networks by name."""

import traceback
from typing import Any

from torch import nn

from experiment.errors import UserError, one_line
from experiment.registry import NETWORKS


def build_network(name: str, *, input_shape: tuple[int, int, int], num_classes: int, **options: Any) -> nn.Module:
    """A new network for images of `input_shape` (channels, height, width), initialised from torch's generator.

    `name` is a registered one, a classification model of torchvision's, or `package.module:Class`. Raises
    UserError for an unknown name or option, and where the network cannot be built.
    """
    try:
        net = NETWORKS.create(name, options, input_shape=tuple(input_shape), num_classes=num_classes)
    except UserError:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise UserError(f"network {name} cannot be built for images of {'x'.join(map(str, input_shape))} and "
                        f"{num_classes} classes with the options {options or 'none'}: {one_line(error)} "
                        f"({place.filename}, line {place.lineno})") from error
    if not isinstance(net, nn.Module):
        raise UserError(f"network {name} gives a {type(net).__name__}, not a torch.nn.Module")
    return net
