"""Nets that become physically smaller: what goes, what stays, and that nothing else changes."""

import warnings

import numpy
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

import experiment
from experiment.channels.graph import find_channels
from experiment.config.doubts import doubts
from experiment.config.loading import load_config
from experiment.core.errors import UserError
from experiment.deployment.fidelity import SAME_NET, relative_difference, require_equal
from experiment.deployment.resizing import without_channels
from experiment.deployment.shrinking import Shrinking, shrink
from experiment.methods.filter_norms import FT
from experiment.nets.masks import size
from experiment.pruning.filter_method import keeping_order

NETS = {
    "lenet5": (1, 16),
    "resnet20": (3, 16),
    "resnet56": (3, 8),
    "densenet22": (3, 16),
    "vgg16_bn": (3, 32),
    "wrn16_8": (3, 8),
    "mobilenet_v2": (3, 32),
    "resnet50": (3, 32),
}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def images_for(name: str, count: int = 6) -> torch.Tensor:
    channels, side = NETS[name]
    return torch.rand(count, channels, side, side)


@torch.no_grad()
def lived_in(net: nn.Module, images: torch.Tensor) -> nn.Module:
    """The net with normalisations that look trained: other scales and shifts, own statistics.

    Deep random nets are chaotic, rounding included, unless their residual branches are weak.
    """
    for name, module in net.named_modules():
        if module in norms_of(net):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
            if name.endswith(".bn3"):
                module.weight.mul_(0.1)
    return with_statistics(net, images)


@torch.no_grad()
def with_statistics(net: nn.Module, images: torch.Tensor) -> nn.Module:
    """The net, which may be pruned, with the statistics of images, as retraining leaves it.

    Variances of nearly constant channels are raised, lest rounding decide on the outputs.
    """
    for module in norms_of(net):
        module.momentum = 1.0
    net.train()(images)
    for module in norms_of(net):
        module.running_var.clamp_(min=0.01)
    return net.eval()


def norms_of(net: nn.Module) -> list[nn.Module]:
    return [one for one in net.modules() if isinstance(one, nn.BatchNorm1d | nn.BatchNorm2d)]


def built(name: str) -> nn.Module:
    channels, side = NETS[name]
    net = experiment.build_network(name, input_shape=(channels, side, side), num_classes=4)
    return lived_in(net, images_for(name))


def num_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def macs(net: nn.Module, images: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(images[:1])
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("name", NETS)
def test_nets_without_their_pruned_filters(name):
    """All that is left is what the pruning counted, and the outputs are those of the masked net."""
    net, images = built(name), images_for(name)
    pruned = experiment.prune(net, [images], method="FT", keep_ratio=0.3)
    smaller = shrink(with_statistics(pruned.net, images), images)
    assert num_parameters(smaller.net) == size(pruned.masks)
    assert all(one.count_nonzero() for one in smaller.net.parameters() if one.dim() > 1)
    assert smaller.note is None
    with torch.no_grad():
        outputs = [one.double()(images.double()) for one in (smaller.net, pruned.net)]
    assert relative_difference(*outputs) <= 1e-12
    smaller.net.float()
    assert macs(smaller.net, images) < 0.5 * macs(net, images)
    assert num_parameters(pruned.net) == num_parameters(net)  # it is left as it was
    before, after = smaller.widths[next(iter(smaller.widths))]
    assert before > after > 0


@pytest.mark.parametrize("name", ["resnet56", "densenet22", "mobilenet_v2"])
def test_filters_that_weight_pruning_has_left_without_a_reader(name):
    net, images = built(name), images_for(name)
    pruned = experiment.prune(net, [images], method="Uniform", keep_ratio=0.05)
    smaller = shrink(with_statistics(pruned.net, images), images)
    assert size(pruned.masks) <= num_parameters(smaller.net) < num_parameters(net)
    assert smaller.difference <= SAME_NET


class Skipping(nn.Module):
    """Two convolutions around which a third one leads, as somebody may write it."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 12, 3, padding=1)
        self.second = nn.Conv2d(12, 12, 3, padding=1)
        self.norm = nn.BatchNorm2d(12)
        self.activation = nn.PReLU(12)
        self.around = nn.Conv2d(3, 12, 1)
        self.head = nn.Linear(12 * 4, 5)

    def forward(self, x):
        inner = self.activation(self.norm(self.second(functional.relu(self.first(x)))))
        joined = functional.adaptive_avg_pool2d(inner + self.around(x), 2)
        return self.head(joined.flatten(1))


def test_a_net_of_ones_own_with_a_skip_connection():
    images = torch.rand(6, 3, 8, 8)
    net = lived_in(Skipping(), images)
    pruned = experiment.prune(net, [images], method="FT", keep_ratio=0.4)
    smaller = shrink(pruned.net, images).net
    assert num_parameters(smaller) == size(pruned.masks)
    width = len(smaller.second.weight)
    assert 0 < width < 12 and smaller.second.out_channels == width
    assert len(smaller.around.weight) == smaller.norm.num_features == width
    assert smaller.activation.num_parameters == width
    assert smaller.norm.running_mean.shape == (width,)
    assert smaller.head.in_features == 4 * width
    assert smaller.second.in_channels == smaller.first.out_channels == len(smaller.first.weight)
    with torch.no_grad():
        assert relative_difference(smaller(images), pruned.net(images)) <= SAME_NET


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm2d(8, affine=False), nn.InstanceNorm2d(8), nn.PReLU(), nn.PReLU(8)]
)
def test_layers_without_entries_to_cut_get_smaller_too(norm):
    images = torch.rand(6, 1, 8, 8)
    net = nn.Sequential(nn.Conv2d(1, 8, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 3))
    net.eval()
    pruned = experiment.prune(net, [images], method="FT", keep_ratio=0.5)
    smaller = shrink(pruned.net, images)
    width = smaller.net[0].out_channels
    assert width < 8 and smaller.note is None
    assert getattr(smaller.net[1], "num_features", width) == width
    assert getattr(smaller.net[1], "num_parameters", width) in (1, width)
    with torch.no_grad():
        smaller.net(images)  # warnings are errors


class InFloat(nn.Module):
    """A net that cannot run in double precision, in which channels are followed."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.second = nn.Linear(8, 2)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)).float())


def test_why_nothing_was_cut_out_is_told():
    net = InFloat()
    with torch.no_grad():
        net.second.weight[:, :4] = 0
    smaller = shrink(net, torch.rand(4, 4))
    assert smaller.widths == {} and smaller.note.startswith("no channels were cut out: ")


def test_widths_by_hand():
    """Three neurons, of which the second is read by nobody: it goes, with its bias."""
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
        net[0].bias.copy_(torch.tensor([0.1, 0.2, 0.3]))
        net[2].weight.copy_(torch.tensor([[1.0, 0.0, 2.0], [3.0, 0.0, 4.0]]))
    smaller = shrink(net, torch.rand(4, 2))
    assert smaller.widths == {"0": (3, 2)}
    assert smaller.net[0].weight.tolist() == [[1.0, 2.0], [5.0, 6.0]]
    assert smaller.net[0].bias.tolist() == pytest.approx([0.1, 0.3])
    assert smaller.net[2].weight.tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(("activation", "width"), [(nn.ReLU(), 2), (nn.Sigmoid(), 3)])
def test_a_neuron_that_makes_nothing_goes_unless_something_becomes_of_it(activation, width):
    net = nn.Sequential(nn.Linear(2, 3, bias=False), activation, nn.Linear(3, 2))
    with torch.no_grad():
        net[0].weight[1] = 0
    smaller = shrink(net, torch.rand(4, 2)).net
    assert len(smaller[0].weight) == width


def test_what_follows_from_a_channel_that_goes_goes_too():
    """The second layer's neuron 0 reads neuron 0 of the first one only, which makes nothing."""
    net = nn.Sequential(
        nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, 3, bias=False), nn.ReLU(),
        nn.Linear(3, 2),
    )  # fmt: skip
    with torch.no_grad():
        net[0].weight[0] = 0
        net[2].weight[0, 1:] = 0
    smaller = shrink(net, torch.rand(4, 2)).net
    assert smaller[0].out_features == 2 and smaller[2].out_features == 2


class CountingChannels(nn.Module):
    """A net that needs exactly the channels with which it was written, in one of two places."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3)
        self.second = nn.Conv2d(8, 8, 3)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = functional.relu(self.second(functional.relu(self.first(x))))
        return self.head(x.mean((2, 3)).view(-1, 8))


def test_channels_stay_where_the_forward_pass_counts_on_them():
    net, images = CountingChannels().eval(), torch.rand(4, 1, 8, 8)
    pruned = experiment.prune(net, [images], method="FT", keep_ratio=0.5)
    smaller = shrink(pruned.net, images)
    assert smaller.left == ["second"] and "superfluous channels of second stay" in smaller.note
    assert smaller.net.first.out_channels < 8 and smaller.net.second.out_channels == 8
    with torch.no_grad():
        assert relative_difference(smaller.net(images), pruned.net(images)) <= SAME_NET


def test_a_net_that_cannot_be_followed_stays_as_it_is():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    smaller = shrink(net, torch.rand(4, 1, 2, 2))
    assert not smaller.widths and smaller.note is None
    assert torch.equal(smaller.net[1].weight, net[1].weight) and smaller.net is not net


def test_one_channel_too_many_is_caught():
    net, images = built("resnet20"), images_for("resnet20")
    pruned = experiment.prune(net, [images], method="FT", keep_ratio=0.3)
    shrinking = Shrinking(pruned.net, images)
    right = without_channels(pruned.net, shrinking.channels, shrinking.needed)
    require_equal(shrinking.outputs_of(right), shrinking.outputs, SAME_NET, "the smaller net")
    too_few = shrinking.needed.copy()
    too_few[numpy.flatnonzero(too_few)[5]] = False
    wrong = without_channels(pruned.net, shrinking.channels, too_few)
    with pytest.raises(UserError, match="the smaller net does not compute what the pruned net"):
        require_equal(shrinking.outputs_of(wrong), shrinking.outputs, SAME_NET, "the smaller net")


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ([1.0, -2.0], 0.0),
        ([1.0, -2.02], 0.01),
        ([1.0, float("nan")], float("inf")),
        ([1.0], float("inf")),
    ],
)
def test_differences_are_relative_to_the_largest_output(outputs, expected):
    reference = torch.tensor([1.0, -2.0])
    assert relative_difference(torch.tensor(outputs), reference) == pytest.approx(expected, 1e-4)


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("FT", "vgg16_bn"),
        ("PFP", "mobilenet_v2"),
        ("UniformFilters", "mobilenet_v2"),
        ("ThiNet", "mobilenet_v2"),
    ],
)
def test_channels_in_blocks_of_eight(method, name):
    net, images = built(name), images_for(name)
    pruned = experiment.prune(net, [images], method=method, keep_ratio=0.4, round_channels=8)
    assert abs(pruned.keep_ratio - 0.4) < 0.05
    channels = find_channels(net, images)
    weights = {
        layer: pruned.masks[f"{layer}.weight"] for layer in [*channels.rows, *channels.columns]
    }
    alive = channels.alive(weights)
    for group, full in zip(channels.groups, channels.sizes):
        kept = int(alive[group].sum())
        assert kept > 0 and (kept % 8 == 0 or kept == full)
    further = experiment.prune(
        pruned.net, [images], method=method, keep_ratio=0.2, masks=pruned.masks, round_channels=8
    )
    assert all(
        before % 8 == 0 or before == after
        for before, after in shrink(further.net, images).widths.values()
        if before % 8 == 0
    )


def test_blocks_are_rounded_to_the_nearest_and_keep_their_order():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    channels = find_channels(net, torch.rand(2, 4))
    priority = numpy.array([1.0, 6, 5, 2, 4, 3, 9, 8, 7, 0])
    alive = numpy.array([True] * 9 + [False])
    order = [block.tolist() for block in keeping_order(channels, priority, alive, 2)]
    assert order == [[6, 7], [1, 2], [8], [4, 5], [3, 0]]
    single = [block.tolist() for block in keeping_order(channels, priority, alive)]
    assert single == [[6], [1], [7], [8], [2], [4], [5], [3], [0]]


def test_channels_of_zeros_may_stay_to_fill_a_multiple():
    net, images = built("vgg16_bn"), images_for("vgg16_bn")
    pruned = experiment.prune(net, [images], method="FT", keep_ratio=0.4)
    exact = shrink(with_statistics(pruned.net, images), images)
    rounded = shrink(pruned.net, images, round_channels=8)
    assert any(after % 8 for _, after in exact.widths.values())
    for layer, (before, after) in rounded.widths.items():
        _, least = exact.widths[layer]
        assert after % 8 == 0 and least <= after < least + 8 and after < before
    assert rounded.difference <= SAME_NET


def test_a_size_that_blocks_do_not_allow_is_explained():
    net, images = built("lenet5"), images_for("lenet5")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruned = experiment.prune(net, [images], method="FT", keep_ratio=0.01, round_channels=64)
    assert "to the 64 of each layer that are always kept" in pruned.note


def test_rounding_in_configurations(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("network: {name: lenet5}\npruning: {methods: [FT]}\n")
    plain = load_config(path)
    rounded = load_config(path, ["pruning.round_channels=8"])
    assert load_config(path, ["pruning.round_channels=1"]).run_id() == plain.run_id()
    assert rounded.run_id() != plain.run_id()
    assert {
        task.round_channels for task in experiment.tasks(rounded) if "prune" in task.key[-5:]
    } == {8}
    weights_only = load_config(path, ["pruning.round_channels=8", "pruning.methods=[WT, SiPP]"])
    assert "none of the methods removes filters" in "".join(doubts(weights_only, 1000, 100))
    assert not doubts(rounded, 1000, 100)
    assert FT.granularity == "filters"
