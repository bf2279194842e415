"""One run of a net in which its layers get labels, and the channels that follow from them."""

from collections import Counter
from collections.abc import Callable, Container

import numpy
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from experiment.channels.channels import NO_CHANNEL, Channels, with_channels
from experiment.channels.following import Following
from experiment.channels.labels import CONSTANT, FIXED, Labels
from experiment.nets.layers import LinearOrConvolution, joint_name

PER_CHANNEL = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.PReLU)


class Trace:
    """The labels of what each layer makes and reads."""

    def __init__(self, net: nn.Module, layers: Container[str] | None):
        """`layers`: the names of the linear and convolutional modules to follow; None for all."""
        self.layers = layers
        self.labels = Labels()
        self.following = Following(net, self.labels)
        self.rows: dict[str, Tensor] = {}  # by layer, the labels of the rows of its weight
        self.columns: dict[str, Tensor] = {}
        self.vectors: dict[str, Tensor] = {}  # by parameter name, the labels of its entries
        self.normalised: dict[str, Tensor] = {}  # by normalisation

    def hooks(self, net: nn.Module) -> list[RemovableHandle]:
        """Handles of hooks that give labels to layers as they run."""
        parameters = net.named_parameters(remove_duplicate=False)
        num_users = Counter(id(parameter) for _, parameter in parameters)
        handles = []
        for name, module in net.named_modules():
            own = module.parameters(recurse=False)
            is_only_user = all(num_users[id(parameter)] == 1 for parameter in own)
            if self._gets_labels(name, module) and is_only_user:
                handles.append(module.register_forward_pre_hook(self._enter))
                handles.append(module.register_forward_hook(self._leave_as(name), with_kwargs=True))
        return handles

    def _gets_labels(self, name: str, module: nn.Module) -> bool:
        """Whether a module is a layer with a parameter as weight, or normalises each channel."""
        if isinstance(module, LinearOrConvolution):
            is_followed = self.layers is None or name in self.layers
            return is_followed and module._parameters.get("weight") is not None
        return isinstance(module, PER_CHANNEL)

    def _enter(self, module: nn.Module, args: tuple) -> None:
        self.following.depth += 1

    def _leave_as(self, name: str) -> Callable:
        def leave(module: nn.Module, args: tuple, kwargs: dict, output: Tensor) -> None:
            if self.following.depth == 1:
                inputs = args[0] if args else kwargs["input"]
                self._label_output(name, module, self.following.labels_of(inputs), output)
            self.following.depth -= 1

        return leave

    def _label_output(self, name: str, module: nn.Module, inputs: Tensor, output: Tensor) -> None:
        """Label the output of a layer or normalisation, given the labels of its inputs.

        If the output has an unexpected shape, all of them are fixed.
        """
        if isinstance(module, LinearOrConvolution):
            dim = 1 - module.weight.dim()  # of channels, with or without one for samples
            labels = self._labels_of_layer(name, module, inputs.movedim(dim, 0), output.shape[dim])
        else:
            dim = 1
            labels = self._labels_of_normalisation(
                name, module, inputs.movedim(dim, 0), output.shape[dim]
            )
        if labels is None:
            self.labels.fix(inputs)
            self.following.label(output, torch.tensor(FIXED))
            return
        shape = [1] * output.dim()
        shape[dim] = len(labels)
        self.following.label(output, labels.reshape(shape))

    def _labels_of_layer(
        self, name: str, layer: LinearOrConvolution, inputs: Tensor, num_outputs: int
    ) -> Tensor | None:
        """A linear layer or convolution reads labels [columns, ...], and makes new ones [rows].

        None if the number of outputs is not that of the weight's rows.
        """
        if num_outputs != len(layer.weight):
            return None
        if name not in self.rows:
            self.rows[name] = self.labels.new(len(layer.weight))
        rows = self.rows[name]
        columns = self.labels.joined_along(inputs)
        groups = getattr(layer, "groups", 1)  # linear layers have none
        if groups == 1:
            known = self.columns.get(name, torch.tensor(CONSTANT))
            self.columns[name] = self.labels.join(columns, known)
        elif is_depthwise(layer):
            self.labels.join(rows, columns)
        else:
            self.labels.fix(rows)
            self.labels.fix(columns)
        if layer.bias is not None:
            self.vectors[joint_name(name, "bias")] = rows
        return rows

    def _labels_of_normalisation(
        self, name: str, layer: nn.Module, inputs: Tensor, num_outputs: int
    ) -> Tensor | None:
        """A normalisation has entries for the labels [entries, ...] that it passes on.

        None if the number of outputs is another one, or that of the entries of a parameter, unless
        a single one serves all.
        """
        lengths = [len(parameter) for parameter in layer.parameters(recurse=False)]
        if num_outputs != len(inputs) or not {1, num_outputs}.issuperset(lengths):
            return None
        labels = self.labels.joined_along(inputs)
        known = self.normalised.get(name, torch.tensor(CONSTANT))
        self.normalised[name] = self.labels.join(labels, known)
        for attribute, parameter in layer._parameters.items():
            if parameter is not None and len(parameter) > 1:
                vector = joint_name(name, attribute)
                known = self.vectors.get(vector, torch.tensor(CONSTANT))
                self.vectors[vector] = self.labels.join(labels, known)
        return labels

    def fix_elsewhere(self) -> None:
        """Fix the labels of parameters that are used outside of their modules."""
        rows = {joint_name(name, "weight"): labels for name, labels in self.rows.items()}
        columns = {joint_name(name, "weight"): labels for name, labels in self.columns.items()}
        for by_parameter in (rows, columns, self.vectors):
            for name in by_parameter.keys() & self.following.elsewhere:
                self.labels.fix(by_parameter[name])

    def channels(self, net: nn.Module) -> Channels:
        """The channels, grouped by the weights that make them, in the order of the net."""
        producers = self._producers(net)
        keys = sorted(set(producers.values()))
        group_of_key = {key: group for group, key in enumerate(keys)}
        group = {root: group_of_key[key] for root, key in producers.items()}
        # Sorting is stable: within a group they stay in the order of the rows.
        roots = sorted(group, key=group.__getitem__)
        channel_of = {root: channel for channel, root in enumerate(roots)}

        def numbered(labels: dict[str, Tensor]) -> dict[str, numpy.ndarray]:
            channels = {}
            for name, own in labels.items():
                own_roots = self.labels.roots(own).tolist()
                found = [channel_of.get(root, NO_CHANNEL) for root in own_roots]
                channels[name] = numpy.array(found)
            return with_channels(channels)

        return Channels(
            group=numpy.array([group[root] for root in roots], dtype=numpy.int64),
            rows=numbered(self.rows),
            columns=numbered(self.columns),
            vectors=numbered(self.vectors),
            normalised=numbered(self.normalised),
        )

    def _producers(self, net: nn.Module) -> dict[int, tuple[int, ...]]:
        """For each removable root, the positions in the net of the weights that make it."""
        position = {name: index for index, (name, _) in enumerate(net.named_parameters())}
        by_weight = {
            position[joint_name(name, "weight")]: labels for name, labels in self.rows.items()
        }
        producers: dict[int, tuple[int, ...]] = {}
        for index in sorted(by_weight):
            for root in dict.fromkeys(self.labels.roots(by_weight[index]).tolist()):
                producers[root] = (*producers.get(root, ()), index)
        producers.pop(FIXED, None)
        return producers


def is_depthwise(layer: LinearOrConvolution) -> bool:
    """Whether a layer filters every channel for itself, and makes one of it."""
    if isinstance(layer, nn.Linear):
        return False
    return 1 < layer.in_channels == layer.groups == layer.out_channels
