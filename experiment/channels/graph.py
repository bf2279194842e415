"""Finding the channels of a net, coupled through additions, concatenations and flattening.

The couplings come from torch-pruning's dependency graph (Fang et al. 2023, arXiv:2301.12900), which is asked about a
copy of the net and never lets loose on it. Not removable are channels that
- are outputs of the net, its classes for instance;
- pass a convolution with groups that is not depthwise: removing one would leave the groups unequal;
- pass LayerNorm or GroupNorm, whose statistics mix them with other channels;
- meet any other layer with parameters, a transposed convolution or attention for instance, or a parameter of its own;
- are made or read by a weight that several modules share;
- turn out to be read by something that torch-pruning did not see.
"""

import copy
from collections import Counter, defaultdict
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from experiment.channels.channels import Channels
from experiment.channels.influence import leaking
from experiment.errors import UserError, one_line
from experiment.layers import LINEAR_OR_CONVOLUTION
from experiment.nets import call, device_of, evaluating, first_sample, moved, split_batch, tensors

Slot = tuple[str, int, int]  # parameter name, dimension, index
PER_CHANNEL = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.PReLU)


class Joined:
    """Disjoint sets of slots (union-find); each set is a channel."""

    def __init__(self):
        self.parent: dict[Slot, Slot] = {}
        self.fixed: set[Slot] = set()  # members of sets that must not be removed

    def find(self, slot: Slot) -> Slot:
        self.parent.setdefault(slot, slot)
        while self.parent[slot] != slot:
            self.parent[slot] = slot = self.parent[self.parent[slot]]
        return slot

    def join(self, one: Slot, other: Slot) -> None:
        self.parent[self.find(other)] = self.find(one)

    def sets(self) -> list[list[Slot]]:
        """The removable ones, in the order in which their first members came."""
        fixed = {self.find(slot) for slot in self.fixed}
        members = defaultdict(list)
        for slot in self.parent:
            members[self.find(slot)].append(slot)
        return [slots for root, slots in members.items() if root not in fixed]


def find_channels(net: nn.Module, example: Any) -> Channels:
    """The removable channels of a net; `example` is one batch for it, of which the first sample is used.

    Raises:
        UserError: if the net cannot be traced, or no channel of it can be removed.
    """
    inputs = moved(first_sample(split_batch(example)[0]), device_of(net))
    traced = copy.deepcopy(net)
    try:
        channels = _numbered(_joined(traced, inputs, _unshared(traced)).sets(), net)
    except Exception as error:  # whatever goes wrong inside torch-pruning
        raise UserError("whole filters cannot be pruned in this net, because torch-pruning cannot trace it "
                        f"({one_line(error)}); methods that prune weights can") from None
    channels = _sound(net, channels, inputs)
    if not channels.number:
        raise UserError("this net has no filter that could be removed as a whole, or none of which torch-pruning can "
                        "tell what reads it; methods that prune weights can prune it")
    return channels


def _sound(net: nn.Module, channels: Channels, inputs: Any) -> Channels:
    """The channels without the groups that have an influence torch-pruning did not see."""
    if not leaking(net, channels, inputs):
        return channels
    groups = [group for group in range(len(channels.sizes)) if not leaking(net, channels.only([group]), inputs)]
    sound = channels.only(groups)
    return channels.only([]) if leaking(net, sound, inputs) else sound


def _unshared(net: nn.Module) -> dict[int, str]:
    """The names, by id, of the parameters that belong to a single module."""
    users = Counter(id(parameter) for _, parameter in net.named_parameters(remove_duplicate=False))
    return {id(parameter): name for name, parameter in net.named_parameters() if users[id(parameter)] == 1}


def _joined(net: nn.Module, inputs: Any, names: dict[int, str]) -> Joined:
    """All slots of a net, joined to channels; `names` maps the ids of its parameters."""
    from torch_pruning import DependencyGraph  # imported when first needed: few runs prune filters

    for parameter in net.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    with evaluating(net), torch.enable_grad():
        graph = DependencyGraph().build_dependency(net, inputs, forward_fn=_outputs, verbose=False)
    joined = Joined()
    for layer in list(graph.module2node):
        if isinstance(layer, LINEAR_OR_CONVOLUTION) and id(layer.weight) in names \
                and _row(layer, names, 0) not in joined.parent:
            _join_group(joined, graph, layer, names)
    return joined


def _outputs(net: nn.Module, inputs: Any) -> list[Tensor]:
    """The net's outputs, each behind an operation of its own, without which torch-pruning would not see an output."""
    return [1 * output for output in tensors(call(net, inputs)) if output.requires_grad]


def _join_group(joined: Joined, graph: Any, layer: nn.Module, names: dict[int, str]) -> None:
    """Join every slot that is coupled with a row of the layer to it."""
    for item in _items(graph, layer):
        module, is_output = item.dep.target.module, graph.is_out_channel_pruning_fn(item.dep.handler)
        for index, root in zip(item.idxs, item.root_idxs):
            slots = _slots(module, is_output, index, names)
            if slots is None:
                joined.fixed.add(_row(layer, names, root))
                joined.find(_row(layer, names, root))
            else:
                for slot in slots:
                    joined.join(_row(layer, names, root), slot)


def _items(graph: Any, layer: nn.Module) -> list[Any]:
    """What torch-pruning couples with the rows of a layer: modules with their indices and those of the rows."""
    from torch_pruning import ops

    prune, rows = graph.get_pruner_of_module(layer).prune_out_channels, range(len(layer.weight))
    items = list(graph.get_pruning_group(layer, prune, list(rows)))
    if any(isinstance(item.dep.target.module, ops._SplitOp | ops._UnbindOp | ops._SliceOp) for item in items):
        # Where parts of a tensor meet again, a group of all rows forgets that two rows have the same reader.
        items = [item for row in rows for item in graph.get_pruning_group(layer, prune, [row])]
    return items


def _row(layer: nn.Module, names: dict[int, str], index: int) -> Slot:
    return names[id(layer.weight)], 0, index


def _slots(module: Any, is_output: bool, index: int, names: dict[int, str]) -> list[Slot] | None:
    """What of a module belongs to the channel with that index there; None if the channel must stay."""
    if isinstance(module, nn.Module) and any(id(own) not in names for own in module.parameters(recurse=False)):
        return None
    if isinstance(module, LINEAR_OR_CONVOLUTION):
        groups = getattr(module, "groups", 1)
        if groups > 1 and not groups == module.in_channels == module.out_channels:
            return None
        if groups == 1 and not is_output:
            return [(names[id(module.weight)], 1, index)]
        bias = [] if module.bias is None else [(names[id(module.bias)], 0, index)]
        return [_row(module, names, index), *bias]
    if isinstance(module, PER_CHANNEL):
        return [(names[id(vector)], 0, index) for vector in module._parameters.values()
                if vector is not None and len(vector) > 1]
    from torch_pruning import ops

    passing = (ops._ElementWiseOp, ops._ConcatOp, ops._SplitOp, ops._ReshapeOp, ops._UnbindOp, ops._ExpandOp,
               ops._SliceOp)
    return [] if isinstance(module, passing) else None


def _numbered(sets: list[list[Slot]], net: nn.Module) -> Channels:
    """Channels from their slots: grouped by the weights that produce them, groups in the order of the net."""
    parameters, layers = dict(net.named_parameters()), {}
    for name, module in net.named_modules():
        if isinstance(module, LINEAR_OR_CONVOLUTION) and isinstance(module._parameters.get("weight"), nn.Parameter):
            layers.setdefault(f"{name}.weight" if name else "weight", name)
    places = {name: place for place, name in enumerate(parameters)}
    producers = [tuple(sorted({places[name] for name, dimension, _ in slots if name in layers and dimension == 0}))
                 for slots in sets]
    group = {names: number for number, names in enumerate(sorted(set(producers)))}
    order = sorted(range(len(sets)), key=lambda index: group[producers[index]])
    rows, columns, vectors = {}, {}, {}
    for channel, index in enumerate(order):
        for name, dimension, place in sets[index]:
            kind, key = (vectors, name) if name not in layers else ((rows, columns)[dimension], layers[name])
            kind.setdefault(key, numpy.full(parameters[name].shape[dimension], -1))[place] = channel
    groups = numpy.array([group[producers[index]] for index in order], dtype=numpy.int64)
    return Channels(groups, rows, columns, vectors)
