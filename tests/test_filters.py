"""Whole filters: which channels belong together, which are removed first."""

import warnings

import numpy
import pytest
import torch
from torch import nn
from torch.nn import functional

import experiment
from experiment.allocation.draws_for_error import draws_for_error, error_for_draws
from experiment.allocation.units import channel_groups
from experiment.channels.channels import Channels
from experiment.channels.graph import find_channels
from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.methods.filter_norms import FT, SoftNet
from experiment.methods.pfp import PFP, PFPTop
from experiment.nets.layers import find_layers
from experiment.pruning.analysis import Analysis
from experiment.pruning.channel_units import channel_units
from experiment.sensitivity.channels import channel_sensitivities
from experiment.sensitivity.reconstruction import gram_matrices, greedy_removal

FILTER_METHODS = [name for name in METHODS.names() if METHODS.get(name).granularity == "filters"]


class Net(nn.Module):
    """Modules by name and what they compute."""

    def __init__(self, compute, **modules):
        super().__init__()
        self.compute = compute
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        return self.compute(self, x)


def pooled(x):
    return functional.relu(x).mean((2, 3))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def channels_of(net: nn.Module) -> Channels:
    return find_channels(net, torch.rand(2, 3, 6, 6))


def by_hand(found: dict[str, numpy.ndarray], **places: list[int]) -> bool:
    """Whether the channels found are those worked out by hand."""
    return {name: values.tolist() for name, values in found.items()} == places


def test_all_registered_filter_methods_are_tested():
    assert FILTER_METHODS == [
        "FT",
        "PFP",
        "PFPRand",
        "PFPTop",
        "SoftNet",
        "ThiNet",
        "UniformFilters",
    ]


def test_channels_through_a_residual_addition_with_batchnorm():
    net = Net(
        lambda net, x: net.fc(pooled(net.a(x) + net.bn(net.b(functional.relu(net.a(x)))))),
        a=nn.Conv2d(3, 2, 1),
        b=nn.Conv2d(2, 2, 1, bias=False),
        bn=nn.BatchNorm2d(2),
        fc=nn.Linear(2, 4),
    )
    channels = channels_of(net)
    assert channels.sizes.tolist() == [2]
    assert by_hand(channels.rows, a=[0, 1], b=[0, 1]) and by_hand(
        channels.columns, b=[0, 1], fc=[0, 1]
    )
    assert by_hand(channels.vectors, **{"a.bias": [0, 1], "bn.weight": [0, 1], "bn.bias": [0, 1]})


def test_channels_through_a_concatenation_that_is_added_to():
    net = Net(
        lambda net, x: net.fc(pooled(torch.cat([net.a(x), net.b(x)], 1) + net.c(x))),
        a=nn.Conv2d(3, 2, 1),
        b=nn.Conv2d(3, 3, 1),
        c=nn.Conv2d(3, 5, 1),
        fc=nn.Linear(5, 4),
    )
    channels = channels_of(net)
    assert channels.sizes.tolist() == [2, 3]
    assert by_hand(channels.rows, a=[0, 1], b=[2, 3, 4], c=[0, 1, 2, 3, 4])
    assert by_hand(channels.columns, fc=[0, 1, 2, 3, 4])


def test_channels_through_flattening_and_a_depthwise_convolution():
    net = Net(
        lambda net, x: net.fc(net.depthwise(net.a(x)).flatten(1)),
        a=nn.Conv2d(3, 2, 5),
        depthwise=nn.Conv2d(2, 2, 1, groups=2),
        fc=nn.Linear(8, 4),
    )
    channels = channels_of(net)
    assert by_hand(channels.rows, a=[0, 1], depthwise=[0, 1]) and by_hand(
        channels.columns, fc=[0, 0, 0, 0, 1, 1, 1, 1]
    )
    assert set(channels.vectors) == {"a.bias", "depthwise.bias"}


def test_halves_that_meet_again_are_one_channel():
    net = Net(
        lambda net, x: net.fc(pooled(torch.mul(*net.a(x).chunk(2, 1)))),
        a=nn.Conv2d(3, 4, 1),
        fc=nn.Linear(2, 4),
    )
    assert by_hand(channels_of(net).rows, a=[0, 1, 0, 1])


def test_what_passes_groups_or_leaves_the_net_stays(small_net, images):
    with pytest.raises(experiment.UserError, match="no filter that could be removed"):
        find_channels(small_net, images)  # conv1 -> grouped conv2 -> fc
    net = Net(
        lambda net, x: (net.a(x), net.fc(pooled(net.b(net.a(x))))),
        a=nn.Conv2d(3, 2, 1),
        b=nn.Conv2d(2, 5, 1),
        fc=nn.Linear(5, 4),
    )
    assert list(channels_of(net).rows) == ["b"]


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(108, 4)), "no filter that could be removed"),
        (
            Net(
                lambda net, x: net.fc(net.a(x).softmax(1).mean((2, 3))),
                a=nn.Conv2d(3, 4, 1),
                fc=nn.Linear(4, 4),
            ),
            "is mixed with others",
        ),
        (
            Net(
                lambda net, x: net.fc(functional.pixel_shuffle(net.a(x), 2).mean((2, 3))),
                a=nn.Conv2d(3, 8, 1),
                fc=nn.Linear(2, 4),
            ),
            "is mixed with others",
        ),
        (
            Net(
                lambda net, x: net.b(net.a(x) if hasattr(x, "missing") else x.missing),
                a=nn.Linear(6, 4),
                b=nn.Linear(4, 4),
            ),
            "the net cannot run on the batch: AttributeError",
        ),
    ],
)
def test_nets_whose_channels_cannot_be_followed(net, expected):
    with pytest.raises(experiment.UserError, match=expected):
        experiment.prune(net, [torch.rand(2, 3, 6, 6)], method="FT", keep_ratio=0.5)


def test_a_masked_channel_is_as_good_as_absent():
    """Keeping 2 of 3 channels of the only group leaves the net that has only two."""

    def build(width):
        return Net(
            lambda net, x: net.fc(functional.relu(net.bn(net.a(x))).flatten(1)),
            a=nn.Conv2d(3, width, 5),
            bn=nn.BatchNorm2d(width),
            fc=nn.Linear(4 * width, 4),
        )

    net, x = build(3), torch.rand(5, 3, 6, 6)
    with torch.no_grad():
        net.a.weight[1] *= 0.01  # the middle one goes
        net.bn.running_mean.uniform_()
        net.bn.bias.uniform_()
    net.eval()
    pruned = experiment.prune(net, [x], method="FT", keep_ratio=0.67)
    small = build(2).eval()
    assert pruned.keep_ratio == sum(p.numel() for p in small.parameters()) / sum(
        p.numel() for p in net.parameters()
    )
    kept = torch.tensor([0, 2])
    state = {
        name: value[kept] if value.dim() and len(value) == 3 else value
        for name, value in net.state_dict().items()
    }
    state["fc.weight"] = net.fc.weight.unflatten(1, (3, 4))[:, kept].flatten(1)
    small.load_state_dict(state)
    torch.testing.assert_close(pruned.net.eval()(x), small(x))


@pytest.mark.filterwarnings("ignore:the pruned net is degenerate")
def test_norms_order_filters():
    """l1: 3, 4; l2: 3, 2.83."""
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[3.0, 0.0], [2.0, -2.0]]))
    for method, kept in ((FT(), [False, True]), (SoftNet(), [True, False])):
        pruned = experiment.prune(net, [torch.rand(4, 2)], method=method, keep_ratio=0.6)
        assert pruned.masks["0.bias"].tolist() == kept
        assert pruned.masks["0.weight"].tolist() == [[here, here] for here in kept]
        assert pruned.masks["2.weight"].tolist() == [kept, kept] and pruned.masks["2.bias"].all()


def test_a_channels_sensitivity_is_the_largest_of_the_weights_that_read_it():
    channels = Channels(
        numpy.array([0, 0]),
        {"a": numpy.array([0, 1])},
        {"b": numpy.array([0, 1]), "c": numpy.array([-1, 0, 0, 1])},
        {},
    )
    sensitivities = {
        "a": torch.ones(2, 1),
        "b": torch.tensor([[[0.1, 0.2], [0.5, 0.3]], [[0.3, 0.0], [0.1, 0.1]]]),
        "c": torch.tensor([[0.9, 0.2, 0.4, 0.1]]),
    }
    assert channel_sensitivities(channels, sensitivities) == pytest.approx([0.4, 0.5])


def test_draws_for_a_relative_error():
    """3 (6 + 2) 2 / 1 = 48 and 3 (6 + 1) 2 / 0.25 = 168."""
    assert draws_for_error(numpy.array([1.0, 0.5]), numpy.array([2.0, 2.0])).tolist() == [48, 168]
    assert error_for_draws(
        numpy.array([48, 168, 0, numpy.inf]), numpy.full(4, 2.0)
    ).tolist() == pytest.approx([1, 0.5, numpy.inf, 0])


def test_channels_expected_and_certain():
    """p = 0.5, 0.3, 0.2: one draw finds 1, two 1.62, three 2.02; certain from 2, 4 and 5 draws."""
    units = channel_groups(numpy.array([0.0, 1.0, 0.6, 0.4]), [4], [1], [1], delta=0.1)
    assert PFP().critical_draws(units, Stream(0)).tolist() == [numpy.inf, 1, 2, 3]
    assert PFPTop().certain_draws(units).tolist() == [numpy.inf, 2, 4, 5]


@pytest.mark.parametrize("method", ["PFPRand", "PFPTop"])
def test_counts_of_a_group_add_up(method):
    """The sum of factor x p over the reweighted channels is 1: counts add up to N."""
    net = nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 3))
    analysis = Analysis(net, [torch.rand(8, 6)])
    alive = numpy.ones(70, dtype=bool)
    ranking = METHODS.build(method, {}).rank(analysis, alive, Stream(0))
    kept = ranking.priority > numpy.median(ranking.priority)
    units, factors = channel_units(analysis, alive), ranking.factors(kept)
    assert not (factors[kept] == 0).any()
    if method == "PFPRand":
        assert numpy.bincount(
            units.unit[kept], (factors * units.probability)[kept]
        ) == pytest.approx([1, 1])
    else:
        assert (factors[kept] == 1).any() and (factors[kept] != 1).any()


def test_thinet_is_greedy():
    """Each step agrees with the errors of all candidates, computed from the contributions."""
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5))
    x = torch.rand(20, 4)
    contributions = (
        (net[1](net[0](x))[:, None] * net[2].weight).detach().double()
    )  # points, filters, channels
    gram = gram_matrices(
        net, find_layers(net, [x]).prunable, [x[:8], x[8:]], find_channels(net, x), 10, Stream(0)
    )[0]
    assert gram.sum() == pytest.approx(1, rel=1e-5)
    removed: list[int] = []
    for _ in range(6):
        errors = {
            c: float(contributions[:, :, removed + [c]].sum(2).square().sum())
            for c in range(6)
            if c not in removed
        }
        removed.append(min(errors, key=errors.get))
    assert greedy_removal(gram).tolist() == removed


def test_thinet_sums_over_kernel_positions():
    net = Net(lambda net, x: pooled(net.b(net.a(x))), a=nn.Conv2d(3, 3, 1), b=nn.Conv2d(3, 2, 3))
    x = torch.rand(2, 3, 6, 6)
    gram = gram_matrices(
        net, find_layers(net, [x]).prunable, [x], find_channels(net, x), 99, Stream(0)
    )[0]
    single = torch.stack(
        [
            functional.conv2d(net.a(x)[:, c : c + 1], net.b.weight[:, c : c + 1]).flatten()
            for c in range(3)
        ]
    )
    expected = (single @ single.T).detach().double()
    assert gram == pytest.approx((expected / expected.sum()).numpy(), rel=1e-4)


def shuffled(net, x):
    """Halves of which one is convolved, shuffled as ShuffleNet does."""
    left, right = functional.relu(net.a(x)).chunk(2, 1)
    x = torch.cat([left, net.b(right)], 1)
    return net.fc(pooled(x.unflatten(1, (2, 2)).transpose(1, 2).flatten(1, 2)))


def written_in_place(net, x):
    """The second half of the channels is added to in place, and the last one overwritten."""
    x = net.a(x)
    x[:, 2:].add_(net.b(x[:, :2]))
    x[:, 3] = 0
    return net.fc(pooled(torch.relu_(x)))


def test_channels_through_a_shuffle():
    net = Net(shuffled, a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(2, 2, 1), fc=nn.Linear(4, 3))
    channels = channels_of(net)
    assert by_hand(channels.rows, a=[0, 1, 2, 3], b=[4, 5]) and by_hand(
        channels.columns, b=[2, 3], fc=[0, 4, 1, 5]
    )


def test_channels_through_writing_in_place():
    """Row 2 of `a` meets row 0 of `b`; rows 3 and 1 met too, but were overwritten by a constant."""
    net = Net(written_in_place, a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(2, 2, 1), fc=nn.Linear(4, 3))
    channels = channels_of(net)
    assert by_hand(channels.rows, a=[0, 1, 2, 3], b=[2, 3]) and by_hand(
        channels.columns, b=[0, 1], fc=[0, 1, 2, -1]
    )


def test_channels_through_pixel_shuffle_and_padding():
    net = Net(
        lambda net, x: net.fc(
            pooled(net.b(functional.pad(functional.pixel_shuffle(net.a(x), 2), (0, 0, 0, 0, 0, 1))))
        ),
        a=nn.Conv2d(3, 8, 1),
        b=nn.Conv2d(3, 2, 1),
        fc=nn.Linear(2, 4),
    )
    channels = channels_of(net)
    assert by_hand(channels.rows, a=[0, 0, 0, 0, 1, 1, 1, 1], b=[2, 3]) and channels.columns[
        "b"
    ].tolist() == [0, 1, -1]


def test_one_channel_read_by_many_columns():
    net = Net(
        lambda net, x: net.fc(net.a(x)[:, 1:].expand(-1, 3)), a=nn.Linear(3, 2), fc=nn.Linear(3, 4)
    )
    assert by_hand(find_channels(net, torch.rand(2, 3)).columns, fc=[1, 1, 1])


@pytest.mark.parametrize(
    "compute",
    [
        lambda net, x: net.c(functional.linear(torch.sigmoid(net.a(x)), net.b.weight)).sigmoid(),
        lambda net, x: net.c(net.b(net.a(x))) + net.a.weight.sum() + net.b.weight.sum(),
        lambda net, x: (
            net.c(net.b(net.a(x) * (1 if net.a(x).sum() > 0 else 2))) * net.b(net.a(x)).sum()
        ),
        lambda net, x: (
            net.c(net.b(net.a(x))) * float((net.a(x) * net.b(net.a(x))).detach().numpy().sum())
        ),
    ],
    ids=[
        "weight used elsewhere",
        "weight in the output",
        "control flow",
        "influence that nobody sees",
    ],
)
def test_channels_with_another_influence_stay(compute):
    net = Net(compute, a=nn.Linear(6, 8), b=nn.Linear(8, 8), c=nn.Linear(8, 3))
    with pytest.raises(experiment.UserError, match="no filter that could be removed"):
        find_channels(net, torch.rand(1, 6))


def test_leaks_are_found_group_by_group():
    """What one layer computes leaks through numpy; the others' channels stay removable."""

    def compute(net, x):
        return net.fc(net.d(net.c(net.b(net.a(x))))) + float(net.b(net.a(x)).detach().numpy().sum())

    net = Net(
        compute,
        a=nn.Linear(6, 8),
        b=nn.Linear(8, 8),
        c=nn.Linear(8, 6),
        d=nn.Linear(6, 6),
        fc=nn.Linear(6, 2),
    )
    assert list(find_channels(net, torch.rand(1, 6)).rows) == ["a", "c", "d"]


class Tokens(nn.Module):
    """Integers in, a dict out."""

    def __init__(self):
        super().__init__()
        self.embedding, self.hidden, self.out = nn.Embedding(9, 6), nn.Linear(6, 8), nn.Linear(8, 3)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, tokens):
        x = self.embedding(tokens)
        x = x + self.attention(x, x, x)[0]
        return {"logits": self.out(functional.gelu(self.hidden(x))).mean(1), "tokens": tokens}


@pytest.mark.filterwarnings("ignore:layers that never ran")
@pytest.mark.parametrize("method", FILTER_METHODS)
def test_nets_of_tokens(method):
    pruned = experiment.prune(
        Tokens(), [{"tokens": torch.randint(0, 9, (4, 5))}], method=method, keep_ratio=0.9
    )
    assert pruned.keep_ratio == pytest.approx(0.9, abs=0.03)
    assert (
        not pruned.masks["hidden.weight"].all() and pruned.masks["attention.in_proj_weight"].all()
    )


def swin():
    from torchvision.models import swin_transformer

    return swin_transformer.SwinTransformer([4, 4], 16, [2, 2], [2, 4], [4, 4], num_classes=10)


def shufflenet():
    from torchvision.models import shufflenetv2

    return shufflenetv2.ShuffleNetV2([1, 1, 1], [8, 16, 24, 32, 48], num_classes=10)


@pytest.mark.filterwarnings("ignore:layers that never ran")
@pytest.mark.parametrize("method", ["FT", "PFP", "ThiNet"])
@pytest.mark.parametrize("build", [swin, shufflenet])
def test_nets_of_torchvision(build, method):
    pruned = experiment.prune(build(), [torch.rand(2, 3, 64, 64)], method=method, keep_ratio=0.7)
    assert pruned.keep_ratio == pytest.approx(0.7, rel=0.02)


def test_channels_of_a_convnext():
    """The hidden ones of each block; the others pass LayerNorm."""
    from torchvision.models import convnext

    blocks = [convnext.CNBlockConfig(8, 16, 1), convnext.CNBlockConfig(16, None, 1)]
    net = convnext.ConvNeXt(blocks, num_classes=10)
    assert list(channels_of_size(net, 32).rows) == ["features.1.0.block.3", "features.3.0.block.3"]


def channels_of_size(net: nn.Module, size: int) -> Channels:
    return find_channels(net, torch.rand(1, 3, size, size))


@pytest.mark.parametrize("method", ["FT", "PFP"])
def test_how_far_filters_can_be_removed_is_said(method):
    """conv 3 -> 4, grouped, conv 4 -> 5, classifier: only the 5 channels go, each with 4 + 1 + 2
    parameters."""
    net = Net(
        lambda net, x: net.fc(pooled(net.c(net.b(net.a(x))))),
        a=nn.Conv2d(3, 4, 1),
        b=nn.Conv2d(4, 4, 1, groups=2),
        c=nn.Conv2d(4, 5, 1),
        fc=nn.Linear(5, 2),
    )
    total = sum(parameter.numel() for parameter in net.parameters())
    with warnings.catch_warnings(action="ignore"):  # one filter may well be silent on a sample
        pruned = experiment.prune(net, [torch.rand(2, 3, 6, 6)], method=method, keep_ratio=0.01)
    assert pruned.keep_ratio == (total - 4 * 7) / total
    assert f"{total - 4 * 7} of the {total} parameters stay" in pruned.note


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return experiment.build_network("resnet20", input_shape=(3, 8, 8), num_classes=10)


def of_layers(net, pruned):
    """The masks of the layers' weights by layer."""
    return {name: pruned.masks[layer.parameter] for name, layer in pruned.found.prunable.items()}


@pytest.mark.parametrize("method", FILTER_METHODS)
def test_whole_filters_of_a_resnet(method, resnet, images):
    first = experiment.prune(resnet, [images], method=method, keep_ratio=0.5, seed=3)
    assert first.keep_ratio == pytest.approx(0.5, rel=0.01)
    later = experiment.prune(
        first.net, [images], method=method, keep_ratio=0.2, seed=4, masks=first.masks
    )
    assert later.keep_ratio == pytest.approx(0.2, rel=0.03)
    assert abs(later.keep_ratio - 0.2) <= 0.001 or "whole filters were removed" in later.note
    channels = find_channels(resnet, images)
    for pruned in (first, later):
        kept = channels.alive(of_layers(resnet, pruned))
        whole = channels.weight_masks(
            {name: resnet.get_submodule(name).weight for name in channels.rows}, kept
        )
        assert all(
            torch.equal(pruned.masks[f"{name}.weight"], mask) for name, mask in whole.items()
        )
        assert (numpy.bincount(channels.group[kept], minlength=len(channels.sizes)) >= 1).all()
        assert pruned.masks["fc.weight"].any(1).all() and pruned.masks["fc.bias"].all()
    assert all(not (later.masks[name] & ~mask).any() for name, mask in first.masks.items())


@pytest.mark.parametrize("method", FILTER_METHODS)
def test_the_seed_decides(method, images):
    net = experiment.build_network("lenet5", input_shape=(3, 8, 8), num_classes=10)
    first, again, other = (
        experiment.prune(net, [images], method=method, keep_ratio=0.5, seed=seed)
        for seed in (3, 3, 4)
    )
    assert all(torch.equal(mask, again.masks[name]) for name, mask in first.masks.items())
    assert all(
        torch.equal(one, same) for one, same in zip(first.net.parameters(), again.net.parameters())
    )
    differs = any(
        not torch.equal(one, another)
        for one, another in zip(first.net.parameters(), other.net.parameters())
    )
    assert (
        differs == (method in ("PFPRand", "PFPTop", "UniformFilters")) or method == "ThiNet"
    )  # which samples points


@pytest.mark.filterwarnings("ignore:the pruned net is degenerate")
@pytest.mark.parametrize("method", FILTER_METHODS)
def test_one_channel_of_each_group_stays(method, images):
    net = experiment.build_network("lenet5", input_shape=(3, 8, 8), num_classes=10)
    pruned = experiment.prune(net, [images], method=method, keep_ratio=0.001)
    assert "the one of each layer that is always kept" in pruned.note
    channels = find_channels(net, images)
    assert numpy.bincount(channels.group[channels.alive(of_layers(net, pruned))]).tolist() == [
        1,
        1,
        1,
        1,
    ]
    whole = experiment.prune(net, [images], method=method, keep_ratio=1.0)
    assert whole.keep_ratio == 1 and torch.equal(whole.net(images), net(images))


@pytest.mark.parametrize("name", ["vgg11_bn", "densenet22", "resnet56"])
def test_channels_are_found_in_all_kinds_of_nets(name):
    net = experiment.build_network(name, input_shape=(3, 32, 32), num_classes=10)
    channels = find_channels(net, torch.zeros(1, 3, 32, 32))
    prunable = {
        layer for layer, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)
    }
    assert prunable - set(channels.rows) == {[*net.named_children()][-1][0]}  # the classifier
