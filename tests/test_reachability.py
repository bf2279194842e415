"""Dead parameters, checked by a second method: a search in a graph of units, without gradients.

A net is described as a graph of nodes. Both the torch module and the units follow from it: one unit
for each channel and, in images, each position. A unit reads others through kept weights. Units that
a search backwards from the outputs finds are alive; kept parameters of all others are dead.
"""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import experiment
from experiment.nets.layers import find_layers
from experiment.nets.masks import Masks, keep_all, size
from experiment.nets.reachability import reached, remove_dead

DENSITIES = [1.0, 0.5, 0.3, 0.1, 0.03, 0.01, 0.003]
CHECKED = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=25,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow],
)
REAL = settings(CHECKED, max_examples=8, phases=[Phase.generate])  # simplifying takes minutes


class Node:
    """A step that passes every unit on as it is: an activation function or an addition."""

    def __init__(
        self,
        name: str,
        inputs: list["Node"],
        shape: tuple[int, ...] | None = None,
        module: nn.Module | None = None,
    ):
        self.name, self.inputs, self.module = name, inputs, module
        self.shape = inputs[0].shape if shape is None else shape

    def forward(self, *values: Tensor) -> Tensor:
        return sum(values) if self.module is None else self.module(*values)

    def read_by(self, alive: Tensor, masks: Masks) -> list[Tensor]:
        """For each input, the units that are read by the living units of this node."""
        return [alive] * len(self.inputs)


class BatchNorm(Node):
    """Passes a channel on if its scale is kept."""

    def __init__(self, name: str, source: Node):
        super().__init__(name, [source], module=nn.BatchNorm2d(source.shape[0]))

    def read_by(self, alive, masks):
        return [alive & masks[f"{self.name}.weight"][:, None, None]]


class Linear(Node):
    """A neuron reads what it has kept weights for."""

    def __init__(self, name: str, source: Node, width: int, bias: bool = True):
        module = nn.Linear(source.shape[0], width, bias=bias)
        super().__init__(name, [source], (width,), module)

    def read_by(self, alive, masks):
        return [masks[f"{self.name}.weight"][alive].any(0)]


class Conv(Node):
    """A filter reads, at each of its positions, what it has kept weights for in its group."""

    def __init__(
        self,
        name: str,
        source: Node,
        width: int,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
    ):
        self.kernel, self.stride, self.padding, self.groups = kernel, stride, kernel // 2, groups
        module = nn.Conv2d(
            source.shape[0], width, kernel, stride, self.padding, groups=groups, bias=bias
        )
        shape = (width, *((length - 1) // stride + 1 for length in source.shape[1:]))
        super().__init__(name, [source], shape, module)

    def read_by(self, alive, masks):
        groups = zip(masks[f"{self.name}.weight"].chunk(self.groups), alive.chunk(self.groups))
        padded = torch.cat([self._read_by_group(kept, filters) for kept, filters in groups])
        height, width = self.inputs[0].shape[1:]
        return [
            padded[:, self.padding : self.padding + height, self.padding : self.padding + width]
        ]

    def _read_by_group(self, kept: Tensor, alive: Tensor) -> Tensor:
        """The units read in one group's input, around which there is padding."""
        height, width = (length + 2 * self.padding for length in self.inputs[0].shape[1:])
        read = torch.zeros(kept.shape[1], height, width, dtype=torch.bool)
        for down, right in itertools.product(range(self.kernel), repeat=2):
            readers = torch.einsum("oi,ohw->ihw", kept[:, :, down, right].float(), alive.float())
            rows, columns = (
                slice(start, start + self.stride * (count - 1) + 1, self.stride)
                for start, count in zip((down, right), alive.shape[1:])
            )
            read[:, rows, columns] |= readers > 0
        return read


class Pool(Node):
    """Each position reads a window of its own channel."""

    def __init__(
        self, name: str, source: Node, window: tuple[int, int], kind: type[nn.Module] = nn.AvgPool2d
    ):
        places = (length // side for length, side in zip(source.shape[1:], window))
        super().__init__(name, [source], (source.shape[0], *places), kind(window))
        self.window = window

    def read_by(self, alive, masks):
        read = torch.zeros(self.inputs[0].shape, dtype=torch.bool)
        windows = alive.repeat_interleave(self.window[0], 1).repeat_interleave(self.window[1], 2)
        read[:, : windows.shape[1], : windows.shape[2]] = windows  # dropping the rest at the edges
        return [read]


class Flatten(Node):
    """Every position of a channel becomes a channel."""

    def __init__(self, name: str, source: Node):
        super().__init__(name, [source], (math.prod(source.shape),), nn.Flatten())

    def read_by(self, alive, masks):
        return [alive.reshape(self.inputs[0].shape)]


class Concat(Node):
    """The channels of one input after those of the other."""

    def __init__(self, name: str, inputs: list[Node]):
        channels = sum(node.shape[0] for node in inputs)
        super().__init__(name, inputs, (channels, *inputs[0].shape[1:]))

    def forward(self, *values):
        return torch.cat(values, 1)

    def read_by(self, alive, masks):
        return list(alive.split([node.shape[0] for node in self.inputs]))


def ordered(output: Node) -> list[Node]:
    """All nodes that the output depends on, inputs first."""
    found: dict[str, Node] = {}

    def visit(node: Node) -> None:
        if node.name not in found:
            for source in node.inputs:
                visit(source)
            found[node.name] = node

    visit(output)
    return list(found.values())


class Described(nn.Module):
    """The net that a graph describes; modules have the names of their nodes."""

    def __init__(self, output: Node):
        super().__init__()
        self.nodes = ordered(output)
        for node in self.nodes:
            if node.module is not None:
                self.add_module(node.name, node.module)

    def forward(self, image: Tensor) -> Tensor:
        values = {"image": image}
        for node in self.nodes[1:]:
            values[node.name] = node.forward(*(values[source.name] for source in node.inputs))
        return values[self.nodes[-1].name]


def alive_units(output: Node, masks: Masks) -> dict[str, Tensor]:
    """By node, the units from which a path leads to the output: a search backwards from there."""
    nodes = ordered(output)
    alive = {node.name: torch.zeros(node.shape, dtype=torch.bool) for node in nodes}
    alive[output.name][:] = True
    for node in reversed(nodes):  # so that all readers of a node come before it
        for source, read in zip(node.inputs, node.read_by(alive[node.name], masks)):
            alive[source.name] |= read
    return alive


def living_masks(output: Node, masks: Masks) -> Masks:
    """The masks without the parameters of channels that have no living unit."""
    alive = {
        name: units.flatten(1).any(1) if units.dim() > 1 else units
        for name, units in alive_units(output, masks).items()
    }
    return {
        name: mask & alive[name.rpartition(".")[0]].reshape(-1, *[1] * (mask.dim() - 1))
        for name, mask in masks.items()
    }


def dead_removed(net: nn.Module, masks: Masks, shape: tuple[int, ...]) -> Masks:
    example = torch.zeros(1, *shape)
    layers = find_layers(net, [example]).prunable
    return remove_dead(net, layers, masks, example, reached(net, layers, keep_all(net), example))


def differences(found: Masks, expected: Masks) -> dict[str, tuple[int, int]]:
    """By parameter: how many entries are wrongly alive, and how many wrongly dead."""
    assert found.keys() == expected.keys()
    counts = {
        name: (int((mask & ~expected[name]).sum()), int((expected[name] & ~mask).sum()))
        for name, mask in found.items()
    }
    return {name: count for name, count in counts.items() if any(count)}


def draw_masks(data: st.DataObject, net: nn.Module) -> Masks:
    """Masks of any density, at random or by magnitude; some layers, rows and columns are empty."""
    density = data.draw(st.sampled_from(DENSITIES), label="density")
    vectors = data.draw(st.sampled_from([1.0, 0.7]), label="density of biases and BatchNorm")
    by_magnitude = data.draw(st.booleans(), label="by magnitude")
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 999), label="seed"))
    masks = {
        name: torch.rand(parameter.shape, generator=generator) < vectors
        for name, parameter in net.named_parameters()
    }
    weights = [name for name, mask in masks.items() if mask.dim() > 1]
    scores = {
        name: net.get_parameter(name).detach().abs()
        if by_magnitude
        else torch.rand(masks[name].shape, generator=generator)
        for name in weights
    }
    threshold = torch.cat([score.flatten() for score in scores.values()]).quantile(1 - density)
    masks |= {name: score >= threshold for name, score in scores.items()}
    layers = st.lists(st.sampled_from(weights), max_size=2, unique=True)
    for name in data.draw(layers, label="emptied"):
        masks[name][:] = False
    for name in data.draw(layers, label="with empty rows and columns"):
        for rows in (masks[name], masks[name].transpose(0, 1)):
            rows[torch.rand(len(rows), generator=generator) < 0.5] = False
    return masks


def relu(source: Node) -> Node:
    return Node(f"{source.name}_relu", [source], module=nn.ReLU())


def normalised(source: Node) -> Node:
    return relu(BatchNorm(f"{source.name}_bn", source))


def widths(data: st.DataObject, most: int, largest: int = 6) -> list[int]:
    width = st.integers(1, largest)
    return data.draw(st.lists(width, min_size=1, max_size=most), label="widths")


def image(data: st.DataObject, channels: int) -> Node:
    sizes = st.sampled_from([(2, 2), (4, 4), (3, 5)])
    return Node("image", [], (channels, *data.draw(sizes, label="size")))


def classified(source: Node, classes: int = 3) -> Node:
    """The mean over all positions, then a linear layer."""
    return Linear("fc", Flatten("flat", Pool("pool", source, source.shape[1:])), classes)


def linear_chain(data):
    node, bias = Node("image", [], (3,)), data.draw(st.booleans(), label="bias")
    for index, width in enumerate(widths(data, 4, largest=12)):
        node = relu(Linear(f"fc{index}", node, width, bias))
    return Linear("fc", node, 3, bias)


def conv_chain(data):
    node, bias = image(data, 2), data.draw(st.booleans(), label="bias")
    for index, width in enumerate(widths(data, 3)):
        stride = data.draw(st.sampled_from([1, 2]), label="stride")
        node = normalised(Conv(f"conv{index}", node, width, stride=stride, bias=bias))
    return classified(node)


def flattened(data):
    node, bias = image(data, 2), data.draw(st.booleans(), label="bias")
    for index, width in enumerate(widths(data, 2)):
        node = relu(Conv(f"conv{index}", node, width, bias=bias))
    if data.draw(st.booleans(), label="pooling"):
        node = Pool("pool", node, (2, 2))
    hidden = relu(Linear("hidden", Flatten("flat", node), widths(data, 1)[0], bias))
    return Linear("fc", hidden, 3, bias)


def residual(data):
    node = normalised(Conv("stem", image(data, 2), widths(data, 1)[0]))
    for index in range(data.draw(st.integers(1, 3), label="blocks")):
        stride = data.draw(st.sampled_from([1, 2]), label="stride")
        width = node.shape[0] if stride == 1 else widths(data, 1)[0]
        node = basic_block(node, f"block{index}_", width, stride, stride == 2)
    return classified(node)


def basic_block(
    source: Node,
    prefix: str,
    width: int,
    stride: int,
    projected: bool,
    shortcut: tuple[str, str] = ("short", "short_bn"),
) -> Node:
    """Two 3x3 convs, added to the identity or to a 1x1 conv."""
    node = Conv(f"{prefix}conv1", source, width, stride=stride)
    node = relu(BatchNorm(f"{prefix}bn1", node))
    node = BatchNorm(f"{prefix}bn2", Conv(f"{prefix}conv2", node, width))
    if projected:
        source = Conv(f"{prefix}{shortcut[0]}", source, width, kernel=1, stride=stride)
        source = BatchNorm(f"{prefix}{shortcut[1]}", source)
    return relu(Node(f"{prefix}add", [node, source]))


def dense(data):
    node = Conv("stem", image(data, 2), widths(data, 1)[0])
    for index, growth in enumerate(widths(data, 3, largest=4)):
        node = dense_layer(node, f"dense{index}_", 2 * growth, growth)
    return classified(normalised(node))


def dense_layer(source: Node, prefix: str, hidden: int, growth: int) -> Node:
    """A 1x1 and a 3x3 conv, whose channels are appended to their inputs."""
    node = Conv(f"{prefix}conv1", relu(BatchNorm(f"{prefix}bn1", source)), hidden, kernel=1)
    node = Conv(f"{prefix}conv2", relu(BatchNorm(f"{prefix}bn2", node)), growth)
    return Concat(f"{prefix}concat", [source, node])


def separable(data):
    node = normalised(Conv("stem", image(data, 2), widths(data, 1)[0]))
    for index, width in enumerate(widths(data, 3)):
        node = normalised(Conv(f"depth{index}", node, node.shape[0], groups=node.shape[0]))
        node = normalised(Conv(f"point{index}", node, width, kernel=1))
    return classified(node)


def inverted_residuals(data):
    """The blocks of MobileNetV2: widen, filter each channel, narrow, add."""
    node = normalised(Conv("stem", image(data, 2), widths(data, 1, largest=4)[0]))
    for index in range(data.draw(st.integers(1, 3), label="blocks")):
        wide = normalised(Conv(f"wide{index}", node, 3 * node.shape[0], kernel=1))
        deep = normalised(Conv(f"depth{index}", wide, wide.shape[0], groups=wide.shape[0]))
        narrow = Conv(f"narrow{index}", deep, node.shape[0], kernel=1)
        node = Node(f"add{index}", [BatchNorm(f"narrow{index}_bn", narrow), node])
    return classified(node)


def grouped(data):
    groups = data.draw(st.sampled_from([2, 3]), label="groups")
    node = normalised(Conv("stem", image(data, 2), groups * widths(data, 1, largest=3)[0]))
    for index, width in enumerate(widths(data, 3, largest=3)):
        bias = index == 1
        node = normalised(Conv(f"conv{index}", node, groups * width, groups=groups, bias=bias))
    return classified(node)


def max_pooled(data):
    node, bias = image(data, 2), data.draw(st.booleans(), label="bias")
    for index, width in enumerate(widths(data, 3)):
        node = relu(Conv(f"conv{index}", node, width, bias=bias))
    node = Pool("pool", node, (2, 2), nn.MaxPool2d)
    return Linear("fc", Flatten("flat", node), 3, bias)


FAMILIES = [
    linear_chain,
    conv_chain,
    flattened,
    max_pooled,
    residual,
    dense,
    separable,
    inverted_residuals,
    grouped,
]


@pytest.mark.parametrize("family", FAMILIES)
@CHECKED
@given(data=st.data())
def test_exactly_what_has_no_path_to_the_output_is_dead(family: Callable, data):
    torch.manual_seed(0)
    output = family(data)
    net = Described(output)
    shape = net.nodes[0].shape
    assert net(torch.zeros(2, *shape)).shape == (2, *output.shape)
    masks = draw_masks(data, net)
    assert differences(dead_removed(net, masks, shape), living_masks(output, masks)) == {}


def resnet20_graph() -> Node:
    """ResNet-20 for images of 3 x 8 x 8, with the names of the real one."""
    node = relu(BatchNorm("bn1", Conv("conv1", Node("image", [], (3, 8, 8)), 16)))
    for stage, block in itertools.product(range(3), range(3)):
        first = stage > 0 and block == 0
        node = basic_block(
            node,
            f"layer{stage + 1}.{block}.",
            16 * 2**stage,
            1 + first,
            first,
            ("downsample.0", "downsample.1"),
        )
    return classified(node, 10)


def densenet22_graph() -> Node:
    """DenseNet-22 for images of 3 x 8 x 8, with the names of the real one."""
    node = Conv("conv1", Node("image", [], (3, 8, 8)), 24)
    for block in (1, 2, 3):
        for layer in range(3):
            node = dense_layer(node, f"block{block}.{layer}.", 48, 12)
        if block < 3:
            node = relu(BatchNorm(f"transition{block}.bn", node))
            node = Conv(f"transition{block}.conv", node, node.shape[0] // 2, kernel=1)
            node = Pool(f"transition{block}.pool", node, (2, 2))
    return classified(relu(BatchNorm("bn", node)), 10)


GRAPHS = {"resnet20": resnet20_graph, "densenet22": densenet22_graph}


def real_net(name: str) -> nn.Module:
    torch.manual_seed(0)
    return experiment.build_network(name, input_shape=(3, 8, 8), num_classes=10)


@pytest.mark.parametrize("name", GRAPHS)
def test_the_search_keeps_all_of_a_whole_net(name):
    masks = keep_all(real_net(name))
    assert size(living_masks(GRAPHS[name](), masks)) == size(masks)


@pytest.mark.parametrize("name", GRAPHS)
@REAL
@given(data=st.data())
def test_exactly_what_has_no_path_is_dead_in_real_nets(name, data):
    net = real_net(name)
    masks = draw_masks(data, net)
    assert (
        differences(dead_removed(net, masks, (3, 8, 8)), living_masks(GRAPHS[name](), masks)) == {}
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("keep_ratio", [0.3, 0.05, 0.01, 0.003])
@pytest.mark.parametrize(
    "method",
    ["WT", "SiPP", {"name": "SynFlow", "rounds": 20}, "Random"],
    ids=["WT", "SiPP", "SynFlow", "Random"],
)
def test_a_pruned_net_keeps_nothing_dead(method, keep_ratio, images):
    net = real_net("resnet20")
    pruned = experiment.prune(net, [images], method=method, keep_ratio=keep_ratio)
    living = living_masks(resnet20_graph(), pruned.masks)
    assert differences(pruned.masks, living) == {}
    assert size(living) == round(pruned.keep_ratio * size(keep_all(net)))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_net_whose_first_and_last_layer_lost_everything_keeps_nothing_dead():
    torch.manual_seed(0)
    hidden = relu(Linear("fc0", Node("image", [], (10,)), 20, bias=False))
    output = Linear("fc2", relu(Linear("fc1", hidden, 200, bias=False)), 10, bias=False)
    net = Described(output)
    with torch.no_grad():
        net.fc0.weight.mul_(1e-3)
        net.fc2.weight.mul_(1e-3)
    pruned = experiment.prune(net, [torch.rand(4, 10)], method="WT", keep_ratio=0.3)
    assert differences(pruned.masks, living_masks(output, pruned.masks)) == {}


def test_a_path_may_lead_through_any_position_that_max_pooling_compares():
    """A filter reads two channels at different positions: the larger must not hide the smaller."""
    first = relu(Conv("first", Node("image", [], (1, 2, 2)), 2, kernel=1))
    pool = Pool("pool", relu(Conv("second", first, 1)), (2, 2), nn.MaxPool2d)
    output = Linear("fc", Flatten("flat", pool), 1)
    net = Described(output)
    masks = keep_all(net)
    masks["second.weight"][:] = False
    masks["second.weight"][0, 0, 0, 0] = masks["second.weight"][0, 1, 2, 2] = True
    assert living_masks(output, masks)["first.weight"].all()
    assert differences(dead_removed(net, masks, (1, 2, 2)), living_masks(output, masks)) == {}


def test_a_thin_path_through_a_deep_net_is_found():
    """A single neuron of each layer leads on, and each reads all 40 before it."""
    node = Linear("fc0", Node("image", [], (40,)), 40)
    for index in range(1, 200):
        node = Linear(f"fc{index}", relu(node), 40)
    net = Described(node)
    masks = keep_all(net)
    for index in range(1, 200):
        masks[f"fc{index}.weight"][1:] = False
    assert differences(dead_removed(net, masks, (40,)), living_masks(node, masks)) == {}


@pytest.mark.parametrize("kept", [0.3, 0.01])
def test_few_weights_of_wide_layers_lead_on(kept):
    """Single precision loses no path among the thousands that an average is taken over."""
    node = Linear("first", Node("image", [], (30,)), 4000)
    node = Linear("narrow", relu(node), 2)
    output = Linear("last", relu(Linear("second", relu(node), 4000)), 3)
    net = Described(output)
    masks = keep_all(net)
    generator = torch.Generator().manual_seed(0)
    for name in ("narrow.weight", "second.weight", "last.weight"):
        masks[name] = torch.rand(masks[name].shape, generator=generator) < kept
    living = living_masks(output, masks)
    assert 0 < size(living) < size(masks)
    assert differences(dead_removed(net, masks, (30,)), living) == {}


def test_a_position_whose_readers_see_only_padding_is_dead():
    """Reading up and left twice leaves an image of 2 x 2, so nothing before that matters."""
    node = relu(Conv("stem", Node("image", [], (1, 2, 2)), 1))
    for name in ("first", "second"):
        node = relu(Conv(name, node, 1))
    output = classified(node)
    net = Described(output)
    masks = keep_all(net)
    for name in ("first", "second"):
        masks[f"{name}.weight"][:] = False
        masks[f"{name}.weight"][0, 0, 0, 0] = True
    living = living_masks(output, masks)
    assert not living["stem.weight"].any() and living["first.weight"].any()
    assert differences(dead_removed(net, masks, (1, 2, 2)), living) == {}
