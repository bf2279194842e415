"""Copies of a net in which some channels are physically gone, and nets of other widths."""

from collections.abc import Iterable, Mapping

import numpy
import torch
from torch import Tensor, nn

from experiment.channels.channels import Channels, spread
from experiment.channels.trace import PER_CHANNEL, is_depthwise
from experiment.nets.layers import joint_name
from experiment.nets.running import copy_of


def without_channels(net: nn.Module, channels: Channels, kept: numpy.ndarray) -> nn.Module:
    """A copy of a net that has only the kept channels [channels].

    Its layers have fewer rows and columns, its normalisations fewer entries. Whether its forward
    pass can do with them is not looked at.
    """
    indices: dict[str, list[Tensor | None]] = {}  # by tensor: what stays of each dimension

    def keep(name: str, dimension: int, channel: numpy.ndarray) -> None:
        stays = spread(kept, channel, len(channel), True)
        of_tensor = indices.setdefault(name, [None, None])
        of_tensor[dimension] = torch.from_numpy(numpy.flatnonzero(stays))

    for layer, channel in channels.rows.items():
        keep(joint_name(layer, "weight"), 0, channel)
    for layer, channel in channels.columns.items():
        keep(joint_name(layer, "weight"), 1, channel)
    for name, channel in channels.vectors.items():
        keep(name, 0, channel)
    for name, channel in _statistics(net, channels):
        keep(name, 0, channel)
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    smaller = {name: _selected(tensors[name], chosen) for name, chosen in indices.items()}
    copy = with_tensors(copy_of(net), smaller)
    for name, channel in channels.normalised.items():
        _say_width(copy.get_submodule(name), int(spread(kept, channel, len(channel), True).sum()))
    return copy


def with_tensors(net: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Give a net other parameters and buffers by their names, in place; widths follow from them.

    Returns the net.
    """
    changed: dict[str, None] = {}
    for name, tensor in tensors.items():
        path, _, attribute = name.rpartition(".")
        module = net.get_submodule(path)
        own = module._parameters.get(attribute)
        if own is None:
            module._buffers[attribute] = tensor.clone()
        else:
            module._parameters[attribute] = nn.Parameter(tensor.clone(), own.requires_grad)
        changed[path] = None
    for path in changed:
        _adapt_widths(net.get_submodule(path))
    return net


def _adapt_widths(module: nn.Module) -> None:
    """Make the attributes of a module say how wide its tensors are now."""
    weight = module._parameters.get("weight")
    if weight is None:
        return
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight.shape
    elif isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        if is_depthwise(module):
            module.groups = len(weight)
        module.out_channels = len(weight)
        module.in_channels = weight.shape[1] * module.groups
    elif isinstance(module, PER_CHANNEL):
        _say_width(module, len(weight))


def _say_width(module: nn.Module, width: int) -> None:
    """Make the attributes of a normalisation or PReLU say how wide it is."""
    if not isinstance(module, nn.PReLU):
        module.num_features = width  # type: ignore[assignment]
    elif module.num_parameters > 1:
        module.num_parameters = width


def _statistics(net: nn.Module, channels: Channels) -> Iterable[tuple[str, numpy.ndarray]]:
    """The running statistics of normalisations, with the channel of each entry."""
    for name, channel in channels.normalised.items():
        for buffer, tensor in net.get_submodule(name)._buffers.items():
            if tensor is not None and tensor.shape == (len(channel),):
                yield joint_name(name, buffer), channel


def _selected(tensor: Tensor, indices: list[Tensor | None]) -> Tensor:
    """The rows and columns of a tensor that stay."""
    result = tensor.detach()
    for dimension, index in enumerate(indices):
        if index is not None:
            result = result.index_select(dimension, index.to(result.device))
    return result
