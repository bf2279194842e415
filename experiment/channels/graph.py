"""Finding the channels of a net, coupled through additions, concatenations, shuffles and flattening.

The net runs once on one sample, while each row of a layer's weight is followed to the columns of the weights that read
what it makes. Not removable are channels that
- are outputs of the net, its classes for instance;
- pass a convolution with groups that is not depthwise: removing one would leave the groups unequal;
- pass LayerNorm, GroupNorm, attention, or any other operation that may mix them with other channels;
- meet a layer of another kind with parameters, a transposed convolution for instance, or a parameter of its own;
- are made or read by a weight that several modules share, or that is used outside of its module;
- turn out to have an influence that was not seen.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from experiment.channels.channels import Channels
from experiment.channels.following import Following
from experiment.channels.influence import Influence
from experiment.channels.labels import CONSTANT, FIXED, Labels
from experiment.errors import UserError, one_line
from experiment.masks import PRUNABLE
from experiment.nets import call, device_of, evaluating, first_sample, moved, split_batch, tensors

PER_CHANNEL = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.PReLU)


def find_channels(net: nn.Module, example: Any) -> Channels:
    """The removable channels of a net; `example` is one batch for it, of which the first sample is used.

    Raises:
        UserError: if the net cannot be followed, or no channel of it can be removed.
    """
    inputs = moved(first_sample(split_batch(example)[0]), device_of(net))
    try:
        channels = _traced(net, inputs).channels(net)
    except Exception as error:  # whatever a net may do that operations cannot be followed through
        raise UserError("whole filters cannot be pruned in this net, because following its operations failed "
                        f"({one_line(error)}); methods that prune weights can") from None
    channels = _sound(net, channels, inputs)
    if not channels.number:
        raise UserError("this net has no filter that could be removed as a whole: what they compute is an output, or "
                        "is mixed with others before it is read, by a normalisation, attention or groups for "
                        "instance; methods that prune weights can prune it")
    return channels


def _sound(net: nn.Module, channels: Channels, inputs: Any) -> Channels:
    """The channels of groups of at least two, one of which always stays, that have no influence that was not seen."""
    influence = Influence(net, inputs)

    def sound(groups: list[int]) -> list[int]:
        if not influence.leaking(channels.only(groups)):
            return groups
        middle = len(groups) // 2
        return sound(groups[:middle]) + sound(groups[middle:]) if middle else []

    groups = numpy.flatnonzero(channels.sizes > 1).tolist()
    kept = sound(groups)
    channels = channels.only(kept)
    return channels.only([]) if kept != groups and influence.leaking(channels) else channels


@torch.no_grad()
def _traced(net: nn.Module, inputs: Any) -> "Trace":
    """The labels of a net's layers after a run."""
    trace = Trace(net)
    with evaluating(net), trace.watching(net), trace.following:
        output = call(net, inputs)
    for tensor in tensors(output):
        labels = trace.following.of(tensor)
        if labels is not None:
            trace.labels.fix(labels)
    trace.fix_elsewhere()
    return trace


class Trace:
    """The labels of what each layer makes and reads."""

    def __init__(self, net: nn.Module):
        self.labels = Labels()
        self.following = Following(net, self.labels)
        self.rows: dict[str, Tensor] = {}  # by layer, the labels of the rows of its weight
        self.columns: dict[str, Tensor] = {}
        self.vectors: dict[str, Tensor] = {}  # by parameter name, of the entries of a bias or normalisation

    @contextlib.contextmanager
    def watching(self, net: nn.Module) -> Iterator[None]:
        """Within the block, layers get labels as they run."""
        handles, users = [], Counter(id(parameter) for _, parameter in net.named_parameters(remove_duplicate=False))
        for name, module in net.named_modules():
            if _has_labels(module) and all(users[id(own)] == 1 for own in module.parameters(recurse=False)):
                handles.append(module.register_forward_pre_hook(self._enter))
                handles.append(module.register_forward_hook(self._leave_as(name), with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, args: tuple) -> None:
        self.following.aside += 1

    def _leave_as(self, name: str):
        def leave(module: nn.Module, args: tuple, kwargs: dict, output: Tensor) -> None:
            if self.following.aside == 1:
                self._meet(name, module, self.following.of_all(args[0] if args else kwargs["input"]), output)
            self.following.aside -= 1
        return leave

    def _meet(self, name: str, module: nn.Module, inputs: Tensor, output: Tensor) -> None:
        """A layer turns the labels of its inputs into those of its output; one of unexpected shape keeps all."""
        is_layer = isinstance(module, PRUNABLE)
        dim = 1 - module.weight.dim() if is_layer else 1
        made = len(module.weight) if is_layer else inputs.shape[dim]
        entries = [] if is_layer else [len(own) for own in module.parameters(recurse=False) if len(own) > 1]
        if output.shape[dim] != made or any(count != made for count in entries):
            self.labels.fix(inputs)
            self.following.label(output, torch.tensor(FIXED))
            return
        made_labels = (self._meet_layer if is_layer else self._meet_normalisation)(name, module, inputs.movedim(dim, 0))
        shape = [1] * output.dim()
        shape[dim] = made
        self.following.label(output, made_labels.reshape(shape))

    def _meet_layer(self, name: str, layer: nn.Module, inputs: Tensor) -> Tensor:
        """A linear layer or convolution reads labels [columns, ...], and makes new ones [rows]."""
        if name not in self.rows:
            self.rows[name] = self.labels.new(len(layer.weight))
        rows, groups = self.rows[name], getattr(layer, "groups", 1)
        columns = self.labels.joined_along(inputs)
        if groups == 1:
            self.columns[name] = self.labels.join(columns, self.columns.get(name, torch.tensor(CONSTANT)))
        elif groups == layer.in_channels == layer.out_channels:
            self.labels.join(rows, columns)
        else:
            self.labels.fix(rows)
            self.labels.fix(columns)
        if layer.bias is not None:
            self.vectors[_joint(name, "bias")] = rows
        return rows

    def _meet_normalisation(self, name: str, layer: nn.Module, inputs: Tensor) -> Tensor:
        """A normalisation has entries for the labels [entries, ...] that it passes on."""
        labels = self.labels.joined_along(inputs)
        for vector, parameter in layer._parameters.items():
            if parameter is not None and len(parameter) > 1:
                known = self.vectors.get(_joint(name, vector), torch.tensor(CONSTANT))
                self.vectors[_joint(name, vector)] = self.labels.join(labels, known)
        return labels

    def fix_elsewhere(self) -> None:
        """What belongs to parameters that are used outside of their modules must stay."""
        by_weight = [{_joint(name, "weight"): labels for name, labels in part.items()}
                     for part in (self.rows, self.columns)]
        for part in (*by_weight, self.vectors):
            for name in part.keys() & self.following.elsewhere:
                self.labels.fix(part[name])

    def channels(self, net: nn.Module) -> Channels:
        """Channels by the weights that make them: grouped, and in the order of the net."""
        places = {name: place for place, name in enumerate(dict(net.named_parameters()))}
        producers: dict[int, list[int]] = {}
        for name in sorted(self.rows, key=lambda name: places[_joint(name, "weight")]):
            for root in dict.fromkeys(self.labels.roots(self.rows[name]).tolist()):
                producers.setdefault(root, []).append(places[_joint(name, "weight")])
        producers.pop(FIXED, None)
        groups = {key: group for group, key in enumerate(sorted(set(map(tuple, producers.values()))))}
        group = {root: groups[tuple(key)] for root, key in producers.items()}
        order = sorted(group, key=group.get)  # stable
        number = {root: channel for channel, root in enumerate(order)}

        def numbered(parts: dict[str, Tensor]) -> dict[str, numpy.ndarray]:
            found = {name: numpy.array([number.get(root, -1) for root in self.labels.roots(part).tolist()])
                     for name, part in parts.items()}
            return {name: channel for name, channel in found.items() if (channel >= 0).any()}

        return Channels(numpy.array([group[root] for root in order], dtype=numpy.int64), numbered(self.rows),
                        numbered(self.columns), numbered(self.vectors))


def _has_labels(module: nn.Module) -> bool:
    """Whether a module is a layer whose weight is a parameter, or normalises channel by channel."""
    if isinstance(module, PRUNABLE):
        return module._parameters.get("weight") is not None
    return isinstance(module, PER_CHANNEL)


def _joint(module: str, parameter: str) -> str:
    return f"{module}.{parameter}" if module else parameter
