"""Nothing that can matter is called dead in nets that choose, mask, cast and route."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional

import experiment
from experiment.nets.layers import find_layers
from experiment.nets.masks import keep_all
from experiment.nets.reachability import reached, remove_dead


class Net(nn.Module):
    """A net of the given modules; `compute(net, x)` is its forward pass."""

    def __init__(self, compute, **parts):
        super().__init__()
        self.compute = compute
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs):
        return self.compute(self, *inputs)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def living(net, masks, example):
    layers = find_layers(net, [example]).prunable
    return remove_dead(net, layers, masks, example, reached(net, layers, keep_all(net), example))


def halves(x):
    return x.unflatten(-1, (2, -1))


CHOICES = {
    "maximum": lambda a, b: torch.maximum(a, b),
    "min": lambda a, b: torch.min(a, other=b),
    "max over": lambda a, b: halves(a + b).max(1)[0],
    "amax": lambda a, b: halves(a + b).amax(dim=1),
    "min kept": lambda a, b: halves(a + b).min(1, keepdim=True).values.flatten(1),
    "topk": lambda a, b: halves(a + b).topk(1, 1).values.flatten(1),
    "largest of all": lambda a, b: (a + b) * (a + b).max(),
    "where": lambda a, b: torch.where(a > b, a, b),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_whatever_may_be_chosen_lives(choice):
    """Half of the weights of one branch are gone: on the surrogate the other always wins."""
    width = CHOICES[choice](torch.zeros(2, 32), torch.zeros(2, 32)).shape[-1]
    net = Net(
        lambda net, x: net.out(CHOICES[choice](net.a(x), net.b(x))),
        a=nn.Linear(6, 32),
        b=nn.Linear(6, 32),
        out=nn.Linear(width, 3),
    )
    masks = keep_all(net)
    masks["b.weight"] &= torch.rand(32, 6) < 0.5
    alive = living(net, masks, torch.randn(4, 6))
    assert all(torch.equal(mask, alive[name]) for name, mask in masks.items())


def experts_by_gate(net, x):
    chosen, result = net.gate(x).argmax(1), torch.zeros(len(x), 5)
    for number, expert in enumerate(net.experts):
        result[chosen == number] = result[chosen == number] + expert(x[chosen == number])
    return net.out(result)


def test_an_expert_that_nothing_is_sent_to_lives():
    experts = nn.ModuleList(nn.Linear(6, 5) for _ in range(4))
    net = Net(experts_by_gate, gate=nn.Linear(6, 4), experts=experts, out=nn.Linear(5, 2))
    masks = keep_all(net)
    masks["gate.weight"] &= torch.rand(4, 6) < 0.5
    alive = living(net, masks, torch.randn(20, 6))
    for number in range(4):
        assert alive[f"experts.{number}.weight"].all()


def test_clamped_integers_stay_indices():
    net = Net(
        lambda net, x: net.out(
            net.places((torch.arange(5) - 2 * x.shape[1]).clamp(-2, 2) + 2).sum(0) + net.a(x)
        ),
        places=nn.Embedding(5, 4),
        a=nn.Linear(3, 4),
        out=nn.Linear(4, 2),
    )
    for method in ("WT", "SynFlow"):
        pruned = experiment.prune(net, [torch.rand(4, 3)], method={"name": method}, keep_ratio=0.9)
        assert pruned.keep_ratio == pytest.approx(0.9, abs=0.02)


def attention(implementation):
    def compute(net, x):
        scores = net.query(x) @ net.key(x).mT
        hidden = torch.full((5, 5), -torch.inf).triu(1).to(x.dtype)
        if implementation == "smallest":
            hidden = hidden.nan_to_num(neginf=torch.finfo(x.dtype).min)
        return net.out(net.narrow(torch.relu(net.wide(torch.softmax(scores + hidden, -1) @ x))))

    return Net(
        compute,
        query=nn.Linear(6, 6),
        key=nn.Linear(6, 6),
        wide=nn.Linear(6, 32),
        narrow=nn.Linear(32, 6),
        out=nn.Linear(6, 2),
    )


@pytest.mark.parametrize("implementation", ["infinite", "smallest"])
def test_hidden_positions_do_not_hide_what_is_dead(implementation):
    net = attention(implementation)
    masks = keep_all(net)
    masks["narrow.weight"][:, 3:] = False
    alive = living(net, masks, torch.randn(2, 5, 6))
    assert alive["wide.weight"].any(1).tolist() == [True] * 3 + [False] * 29
    assert alive["query.weight"].all() and alive["key.weight"].all()


@pytest.mark.parametrize(
    "cast",
    [
        lambda x: x.float(),
        lambda x: x.to(torch.float32),
        lambda x: x.to(dtype=torch.float32),
        lambda x: x.type(torch.float32),
        lambda x: x + torch.zeros(1, dtype=torch.float32),
        lambda x: x @ torch.eye(6),
    ],
)
@pytest.mark.parametrize("method", ["WT", "FT", "SynFlow"])
def test_nets_that_cast_inside_are_pruned(method, cast):
    net = Net(
        lambda net, x: net.out(torch.relu(net.a(cast(x)))), a=nn.Linear(6, 20), out=nn.Linear(20, 4)
    )
    pruned = experiment.prune(net, [torch.randn(4, 6)], method=method, keep_ratio=0.8)
    assert pruned.keep_ratio == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_net_may_need_its_own_precision(dtype):
    ones = torch.ones(1, 6, dtype=dtype)
    net = Net(lambda net, x: functional.linear(ones, net.a.weight) + net.a(x), a=nn.Linear(6, 4))
    images = torch.randn(4, 6, dtype=dtype)
    pruned = experiment.prune(net.to(dtype), [images], method="WT", keep_ratio=0.5)
    assert pruned.keep_ratio == 0.5


def test_a_net_that_needs_half_precision_is_refused_in_one_sentence():
    ones = torch.ones(1, 6, dtype=torch.bfloat16)
    net = Net(lambda net, x: functional.linear(ones, net.a.weight) + net.a(x), a=nn.Linear(6, 4))
    images = torch.randn(4, 6, dtype=torch.bfloat16)
    with pytest.raises(experiment.UserError, match="does not run in float32 with other weights"):
        experiment.prune(net.bfloat16(), [images], method="WT", keep_ratio=0.8)


def test_wanda_reads_convolutions_in_any_memory_format(images):
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))
    plain = experiment.prune(net, [images], method="Wanda", keep_ratio=0.5)
    other = copy.deepcopy(net).to(memory_format=torch.channels_last)
    moved = experiment.prune(other, [images], method="Wanda", keep_ratio=0.5)
    assert all(torch.equal(mask, moved.masks[name]) for name, mask in plain.masks.items())


def test_an_attribute_named_like_the_start_of_a_parameter_hides_nothing():
    net = Net(lambda net, x: x @ net.hidden_weight, hidden=16)
    net.hidden_weight = nn.Parameter(torch.randn(6, 4))
    assert experiment.prune(net, [torch.randn(4, 6)], keep_ratio=0.5).left_out == {}


def test_products_of_parameters_are_not_layers():
    net = Net(lambda net, x: functional.linear(net.out(x), net.a @ net.b), out=nn.Linear(6, 6))
    net.a, net.b = nn.Parameter(torch.randn(4, 2)), nn.Parameter(torch.randn(2, 6))
    pruned = experiment.prune(net, [torch.randn(5, 6)], method="WT", keep_ratio=0.8)
    assert pruned.layers["layer"].tolist() == ["out"] and set(pruned.left_out) == {"a", "b"}


def test_parameters_that_share_memory_are_refused():
    net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    net[2].weight.data = net[0].weight.data
    with pytest.raises(
        experiment.UserError, match=r"'2.weight' of the net shares its memory with '0.weight'"
    ):
        experiment.prune(net, [torch.randn(4, 6)], keep_ratio=0.5)


def test_pruning_leaves_a_spectral_norm_that_never_ran_as_it_was():
    net = Net(
        lambda net, x: net.a(x),
        a=nn.Linear(6, 4),
        idle=nn.utils.parametrizations.spectral_norm(nn.Linear(6, 4)),
    )
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with warnings.catch_warnings(action="ignore"):
        experiment.prune(net, [torch.randn(4, 6)], keep_ratio=0.9)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("method", ["WT", "SiPP", "SynFlow", "FT"])
def test_pruning_within_inference_mode(method):
    net, x = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 4)), torch.randn(4, 6)
    expected = experiment.prune(net, [x], method=method, keep_ratio=0.7)
    with torch.inference_mode():
        found = experiment.prune(net, [x], method=method, keep_ratio=0.7)
    assert all(torch.equal(mask, found.masks[name]) for name, mask in expected.masks.items())


def test_certificates_cover_whole_weights_only():
    """Attention to another sequence uses its packed projection in blocks, on different points."""
    net = Net(
        lambda net, x: net.attention(x, x[:, :3], x[:, :3])[0],
        attention=nn.MultiheadAttention(8, 2, batch_first=True),
    )
    x = torch.randn(4, 5, 8)
    table = experiment.certify(net, [x], [x], keep_ratio=0.9)
    assert table["layer"].tolist() == ["attention.out_proj"]
    assert table["contributions_beyond"].sum() == 0


@pytest.mark.parametrize(
    "compute",
    [
        lambda net, x: net.fc(net.a(x).unsqueeze_(0).squeeze_(0).mean((2, 3))),
        lambda net, x: net.fc(
            functional.interpolate(net.a(x), scale_factor=2, mode="bilinear").mean((2, 3))
        ),
        lambda net, x: net.fc(
            functional.interpolate(net.a(x), 9, mode="nearest-exact").mean((2, 3))
        ),
    ],
)
def test_filters_are_followed_through_more_operations(compute):
    net = Net(compute, a=nn.Conv2d(3, 8, 3), fc=nn.Linear(8, 4))
    pruned = experiment.prune(net, [torch.rand(4, 3, 6, 6)], method="FT", keep_ratio=0.6)
    assert pruned.keep_ratio == pytest.approx(0.6, abs=0.08)


def test_filters_are_the_same_in_any_memory_format():
    from experiment.channels.graph import find_channels

    net, images = (
        experiment.build_network("resnet20", input_shape=(3, 8, 8), num_classes=4),
        torch.rand(1, 3, 8, 8),
    )
    plain = find_channels(net, images)
    other = find_channels(net.to(memory_format=torch.channels_last), images)
    assert plain.num_channels == other.num_channels and plain.rows.keys() == other.rows.keys()


@pytest.mark.parametrize(
    ("batch", "loss"),
    [
        ((torch.randn(7, 4, 6), torch.zeros(4)), lambda o, y: (o.mean((0, 2)) - y).square().mean()),
        (
            (torch.randn(4, 5, 6), torch.arange(20) % 3),
            lambda o, y: functional.cross_entropy(o.flatten(0, 1), y),
        ),
    ],
)
def test_targets_need_not_be_counted_along_the_first_dimension(batch, loss):
    net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))
    for method in ("WT", "SNIP"):
        assert (
            experiment.prune(net, [batch], method=method, keep_ratio=0.8, loss=loss).keep_ratio
            > 0.7
        )


def test_infinite_outputs_are_compared():
    from experiment.nets.collapse import has_constant_output

    constant = Net(
        lambda net, x: torch.cat([0 * net.a(x), torch.full((len(x), 1), -torch.inf)], 1),
        a=nn.Linear(3, 2),
    )
    assert has_constant_output(constant, [torch.randn(4, 3)])
    varied = Net(
        lambda net, x: torch.cat([net.a(x), torch.where(x[:, :1] > 9, 0.0, torch.inf)], 1),
        a=nn.Linear(3, 2),
    )
    assert not has_constant_output(varied, [torch.randn(4, 3)])


def test_layer_normalisation_mixes_what_it_averages():
    """A feature whose own scale is unread still moves the mean and deviation of the others."""
    for norm in (nn.LayerNorm(10), nn.GroupNorm(1, 10), nn.RMSNorm(10)):
        net = nn.Sequential(nn.Linear(8, 10), norm, nn.Linear(10, 3))
        masks = keep_all(net)
        masks["2.weight"][:, 4] = False
        assert living(net, masks, torch.randn(4, 8))["0.weight"].all()


def test_a_temperature_is_a_parameter_like_others():
    net = Net(
        lambda net, x: net.a(x) * net.scale,
        a=nn.Linear(8, 3),
        scale=nn.Parameter(torch.tensor(1.0)),
    )
    for method in ("WT", "SiPP", "SynFlow"):
        assert experiment.prune(net, [torch.randn(5, 8)], method=method, keep_ratio=0.7).masks[
            "scale"
        ]


def test_tied_tokens_that_are_pruned_do_not_kill_what_reads_others():
    net = Net(
        lambda net, x: net.head(torch.relu(net.a(net.tokens(x)))),
        tokens=nn.Embedding(11, 8),
        a=nn.Linear(8, 8, bias=False),
        head=nn.Linear(8, 11, bias=False),
    )
    net.head.weight = net.tokens.weight
    masks = keep_all(net)
    masks["tokens.weight"][:3] = False
    assert living(net, masks, torch.tensor([[0, 1, 2], [4, 5, 6]]))["a.weight"].all()


def test_sorted_and_summed_products_live():
    net = Net(
        lambda net, x: net.out(torch.einsum("ni,oi->no", x, net.a.weight).sort(-1).values),
        a=nn.Linear(6, 8, bias=False),
        out=nn.Linear(8, 3),
    )
    masks = keep_all(net)
    masks["a.weight"] &= torch.rand(8, 6) < 0.5
    alive = living(net, masks, torch.randn(4, 6))
    assert torch.equal(alive["a.weight"], masks["a.weight"])


@pytest.mark.parametrize("options", [{}, {"kdim": 6, "vdim": 4}, {"add_bias_kv": True}])
def test_attention_keeps_its_minimum(options):
    module = nn.MultiheadAttention(12, 3, batch_first=True, **options)
    key, value = options.get("kdim", 12), options.get("vdim", 12)
    net = Net(
        lambda net, x: net.out(net.attention(x, x[..., :key], x[..., :value])[0].mean(1)),
        attention=module,
        out=nn.Linear(12, 4),
    )
    for seed in range(3):
        torch.manual_seed(seed)
        for parameter in net.parameters():
            nn.init.normal_(parameter)
        pruned = experiment.prune(
            net, [torch.randn(6, 5, 12)], method="SiPP", keep_ratio=0.12, min_kept_per_layer=1
        )
        assert 0.05 < pruned.keep_ratio < 0.2 and pruned.empty_layers == []


def test_a_branch_that_nobody_reads_is_opened_for_its_minimum():
    net = Net(
        lambda net, x: net.out(torch.cat([torch.relu(net.a(x)), torch.relu(net.b(x))], 1)),
        a=nn.Linear(8, 6),
        b=nn.Linear(8, 6),
        out=nn.Linear(12, 3),
    )
    with torch.no_grad():
        net.out.weight[:, 6:] *= 0.01
    pruned = experiment.prune(
        net, [torch.randn(20, 8)], method="WT", keep_ratio=0.3, min_kept_per_layer=2
    )
    assert pruned.empty_layers == [] and pruned.layers["kept_weights"].min() >= 2
    assert pruned.masks["out.weight"][:, 6:].any()
    everything = experiment.prune(
        net, [torch.randn(20, 8)], method="WT", keep_ratio=0.3, min_kept_per_layer=10**9
    )
    assert (
        everything.keep_ratio == 1 and "with at least 1000000000 weights in each" in everything.note
    )


def test_synflow_takes_nets_that_end_in_a_logarithm():
    net = nn.Sequential(nn.Linear(8, 9), nn.ReLU(), nn.Linear(9, 3), nn.LogSoftmax(1))
    assert (
        experiment.prune(net, [torch.randn(5, 8)], method="SynFlow", keep_ratio=0.6).keep_ratio
        > 0.55
    )
