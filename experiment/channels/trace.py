"""One run of a net in which its layers get labels, and what channels follow from them."""

import contextlib
from collections import Counter
from collections.abc import Callable, Container, Iterator

import numpy
import torch
from torch import Tensor, nn

from experiment.channels.channels import Channels
from experiment.channels.following import Following
from experiment.channels.labels import CONSTANT, FIXED, Labels
from experiment.nets.layers import LINEAR_OR_CONVOLUTION
from experiment.nets.running import joint_name

PER_CHANNEL = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.PReLU)


class Trace:
    """The labels of what each layer makes and reads."""

    def __init__(self, net: nn.Module, layers: Container[str] | None):
        """`layers`: names of the linear and convolutional modules that count, if not all do."""
        self.layers = layers
        self.labels = Labels()
        self.following = Following(net, self.labels)
        self.rows: dict[str, Tensor] = {}  # by layer, the labels of the rows of its weight
        self.columns: dict[str, Tensor] = {}
        self.vectors: dict[str, Tensor] = {}  # by parameter name, those of its entries

    @contextlib.contextmanager
    def watching(self, net: nn.Module) -> Iterator[None]:
        """Within the block, layers get labels as they run."""
        users = Counter(id(one) for _, one in net.named_parameters(remove_duplicate=False))
        handles = []
        for name, module in net.named_modules():
            own = module.parameters(recurse=False)
            if self._has_labels(name, module) and all(
                users[id(parameter)] == 1 for parameter in own
            ):
                handles.append(module.register_forward_pre_hook(self._enter))
                handles.append(module.register_forward_hook(self._leave_as(name), with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _has_labels(self, name: str, module: nn.Module) -> bool:
        """Whether a module is a layer whose weight is a parameter, or normalises channel by channel."""
        if isinstance(module, LINEAR_OR_CONVOLUTION):
            counts = self.layers is None or name in self.layers
            return counts and module._parameters.get("weight") is not None
        return isinstance(module, PER_CHANNEL)

    def _enter(self, module: nn.Module, args: tuple) -> None:
        self.following.aside += 1

    def _leave_as(self, name: str) -> Callable:
        def leave(module: nn.Module, args: tuple, kwargs: dict, output: Tensor) -> None:
            if self.following.aside == 1:
                inputs = args[0] if args else kwargs["input"]
                self._meet(name, module, self.following.of_all(inputs), output)
            self.following.aside -= 1

        return leave

    def _meet(self, name: str, module: nn.Module, inputs: Tensor, output: Tensor) -> None:
        """A layer turns labels into those of its output; one of unexpected shape keeps all."""
        is_layer = isinstance(module, LINEAR_OR_CONVOLUTION)
        dim = 1 - module.weight.dim() if is_layer else 1
        made = len(module.weight) if is_layer else inputs.shape[dim]
        entries = [] if is_layer else [len(own) for own in module.parameters(recurse=False)]
        if output.shape[dim] != made or not {1, made}.issuperset(entries):
            self.labels.fix(inputs)
            self.following.label(output, torch.tensor(FIXED))
            return
        meet = self._meet_layer if is_layer else self._meet_normalisation
        shape = [1] * output.dim()
        shape[dim] = made
        self.following.label(output, meet(name, module, inputs.movedim(dim, 0)).reshape(shape))

    def _meet_layer(self, name: str, layer: nn.Module, inputs: Tensor) -> Tensor:
        """A linear layer or convolution reads labels [columns, ...], and makes new ones [rows]."""
        if name not in self.rows:
            self.rows[name] = self.labels.new(len(layer.weight))
        rows, groups = self.rows[name], getattr(layer, "groups", 1)
        columns = self.labels.joined_along(inputs)
        if groups == 1:
            known = self.columns.get(name, torch.tensor(CONSTANT))
            self.columns[name] = self.labels.join(columns, known)
        elif groups == layer.in_channels == layer.out_channels:
            self.labels.join(rows, columns)
        else:
            self.labels.fix(rows)
            self.labels.fix(columns)
        if layer.bias is not None:
            self.vectors[joint_name(name, "bias")] = rows
        return rows

    def _meet_normalisation(self, name: str, layer: nn.Module, inputs: Tensor) -> Tensor:
        """A normalisation has entries for the labels [entries, ...] that it passes on."""
        labels = self.labels.joined_along(inputs)
        for vector, parameter in layer._parameters.items():
            if parameter is not None and len(parameter) > 1:
                known = self.vectors.get(joint_name(name, vector), torch.tensor(CONSTANT))
                self.vectors[joint_name(name, vector)] = self.labels.join(labels, known)
        return labels

    def fix_elsewhere(self) -> None:
        """What belongs to parameters that are used outside of their modules must stay."""
        by_weight = [
            {joint_name(name, "weight"): labels for name, labels in part.items()}
            for part in (self.rows, self.columns)
        ]
        for part in (*by_weight, self.vectors):
            for name in part.keys() & self.following.elsewhere:
                self.labels.fix(part[name])

    def channels(self, net: nn.Module) -> Channels:
        """Channels by the weights that make them: grouped, and in the order of the net."""
        places = {name: place for place, name in enumerate(dict(net.named_parameters()))}
        producers: dict[int, list[int]] = {}
        for name in sorted(self.rows, key=lambda name: places[joint_name(name, "weight")]):
            for root in dict.fromkeys(self.labels.roots(self.rows[name]).tolist()):
                producers.setdefault(root, []).append(places[joint_name(name, "weight")])
        producers.pop(FIXED, None)
        keys = sorted(set(map(tuple, producers.values())))
        groups = {key: group for group, key in enumerate(keys)}
        group = {root: groups[tuple(key)] for root, key in producers.items()}
        order = sorted(group, key=group.get)  # stable
        number = {root: channel for channel, root in enumerate(order)}

        def numbered(parts: dict[str, Tensor]) -> dict[str, numpy.ndarray]:
            roots = {name: self.labels.roots(part).tolist() for name, part in parts.items()}
            found = {
                name: numpy.array([number.get(root, -1) for root in own])
                for name, own in roots.items()
            }
            return {name: channel for name, channel in found.items() if (channel >= 0).any()}

        return Channels(
            numpy.array([group[root] for root in order], dtype=numpy.int64),
            numbered(self.rows),
            numbered(self.columns),
            numbered(self.vectors),
        )
