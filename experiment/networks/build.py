"""Networks by name."""

from typing import Any

from torch import nn

from experiment.registry import NETWORKS


def build_network(name: str, *, input_shape: tuple[int, int, int], num_classes: int, **options: Any) -> nn.Module:
    """A new network for images of `input_shape` (channels, height, width), initialised from torch's generator.

    `name` is a registered one or `package.module:Class`. Raises UserError for an unknown name or option.
    """
    return NETWORKS.create(name, options, input_shape=tuple(input_shape), num_classes=num_classes)
