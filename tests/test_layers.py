"""Which weights of a net are prunable: those whose products with inputs are observed."""

import copy
import warnings

import pytest
import torch
from conftest import SmallNet
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

import experiment
from experiment.core.registry import METHODS
from experiment.nets.layers import find_layers, watch
from experiment.sensitivity.reference import reference_sensitivities

WEIGHT_METHODS = [name for name in METHODS.names() if METHODS.get(name).granularity == "weights"]


class Net(nn.Module):
    """A net of the given parameters and modules; `compute(net, x)` is its forward pass."""

    def __init__(self, compute, **parts):
        super().__init__()
        self.compute = compute
        for name, part in parts.items():
            setattr(self, name, nn.Parameter(part) if isinstance(part, torch.Tensor) else part)

    def forward(self, x):
        return self.compute(self, x)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def prune(net, batches, **options):
    with warnings.catch_warnings(action="ignore"):
        return experiment.prune(net, batches, **{"method": "SiPP", "keep_ratio": 0.5} | options)


def same_sensitivities(one, other):
    assert len(one) == len(other)
    for mine, yours in zip(one.values(), other.values()):
        torch.testing.assert_close(mine, yours)


LINEAR = nn.Linear(6, 4)
X = torch.randn(5, 3, 6, generator=torch.Generator().manual_seed(1))
SPELLINGS = {  # of the same product
    "functional": lambda net, x: functional.linear(x, net.weight, net.bias),
    "matmul": lambda net, x: x @ net.weight.T + net.bias,
    "einsum": lambda net, x: torch.einsum("nti,oi->nto", x, net.weight) + net.bias,
    "addmm": lambda net, x: torch.addmm(net.bias, x.flatten(0, 1), net.weight.t()),
    "left": lambda net, x: (net.weight @ x.mT).mT + net.bias,
    "one sample at a time": lambda net, x: torch.stack([net.weight @ row for row in x[:, 0]]),
    "rows": lambda net, x: torch.cat(
        [functional.linear(x, part) for part in net.weight.chunk(2)], -1
    ),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_product_is_a_linear_layer_however_it_is_written(spelling):
    x = X[:, :1] if spelling == "one sample at a time" else X
    net = Net(SPELLINGS[spelling], weight=LINEAR.weight.detach(), bias=LINEAR.bias.detach())
    plain = experiment.sensitivities(LINEAR, [x])
    found = experiment.sensitivities(net, [x])
    assert list(found) == [""]
    torch.testing.assert_close(found[""], plain[""])
    with torch.inference_mode():
        torch.testing.assert_close(experiment.sensitivities(net, [x])[""], plain[""])


class Conv1D(nn.Module):
    """A linear layer whose weight is [inputs, outputs], as in GPT-2."""

    def __init__(self, linear):
        super().__init__()
        self.weight = nn.Parameter(linear.weight.detach().t().clone())
        self.bias = nn.Parameter(linear.bias.detach().clone())

    def forward(self, x):
        return torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight).reshape(
            *x.shape[:-1], -1
        )


@pytest.mark.parametrize("method", WEIGHT_METHODS)
def test_transposed_weights_are_pruned_as_linear_layers_are(method):
    plain = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 4))
    turned = nn.Sequential(Conv1D(plain[0]), nn.ReLU(), Conv1D(plain[2]))
    batch = X[:, 0], torch.arange(5) % 4
    options = {"method": method, "loss": functional.cross_entropy, "keep_ratio": 0.6}
    expected, found = prune(plain, [batch], **options), prune(turned, [batch], **options)
    for name in ("0.weight", "2.weight"):
        assert torch.equal(found.masks[name].t(), expected.masks[name])
        torch.testing.assert_close(
            found.net.get_parameter(name).t(), expected.net.get_parameter(name)
        )
    for name in ("0.bias", "2.bias"):
        assert torch.equal(found.masks[name], expected.masks[name])
    scores = experiment.sensitivities(turned, [batch])
    assert scores["0"].shape == (6, 9)


def attention(packed: bool) -> nn.Module:
    """Attention with one packed projection, or with three plain ones, of the same weights."""
    torch.manual_seed(3)
    module = nn.MultiheadAttention(8, 2, batch_first=True)
    nn.init.normal_(module.in_proj_bias)
    if packed:
        return Net(
            lambda net, x: net.head(net.attention(x, x, x)[0]),
            attention=module,
            head=nn.Linear(8, 3),
        )
    torch.manual_seed(3)
    nn.MultiheadAttention(8, 2)
    parts = {}
    rows = zip(module.in_proj_weight.chunk(3), module.in_proj_bias.chunk(3))
    for name, (weight, bias) in zip(("query", "key", "value"), rows):
        parts[name] = nn.Linear(8, 8)
        parts[name].weight.data, parts[name].bias.data = (
            weight.detach().clone(),
            bias.detach().clone(),
        )
    out = nn.Linear(8, 8)
    out.load_state_dict(module.out_proj.state_dict())

    def compute(net, x):
        query, key, value = (
            getattr(net, name)(x).unflatten(-1, (2, 4)).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return net.head(net.out(mixed.transpose(1, 2).flatten(2)))

    return Net(compute, **parts, out=out, head=nn.Linear(8, 3))


def test_attention_is_pruned_as_its_plain_projections_would_be():
    packed, plain, x = attention(True), attention(False), torch.randn(4, 5, 8)
    plain.head.load_state_dict(packed.head.state_dict())
    torch.testing.assert_close(packed(x), plain(x))
    found, expected = experiment.sensitivities(packed, [x]), experiment.sensitivities(plain, [x])
    assert set(found) == {"attention.in_proj_weight", "attention.out_proj", "head"}
    torch.testing.assert_close(
        found["attention.in_proj_weight"],
        torch.cat([expected[name] for name in ("query", "key", "value")]),
    )
    torch.testing.assert_close(found["attention.out_proj"], expected["out"])
    for method, keep_ratio in (("SiPP", 0.8), ("WT", 0.4)):
        mine, yours = (
            prune(net, [x], method=method, keep_ratio=keep_ratio) for net in (packed, plain)
        )
        assert mine.left_out == {} == yours.left_out
        rows = torch.cat([yours.masks[f"{name}.weight"] for name in ("query", "key", "value")])
        assert torch.equal(mine.masks["attention.in_proj_weight"], rows)


def test_attention_to_another_sequence_reads_both():
    module = nn.MultiheadAttention(8, 2, batch_first=True, kdim=6, vdim=4)
    net = Net(lambda net, x: net.attention(x, x[:, :, :6], x[:, :, :4])[0], attention=module)
    names = {f"attention.{name}_proj_weight" for name in "qkv"} | {"attention.out_proj"}
    assert set(experiment.sensitivities(net, [torch.randn(4, 5, 8)])) == names


class Standardised(nn.Linear):
    def forward(self, x):
        return functional.linear(x, functional.normalize(self.weight), self.bias)


LEFT_OUT = {
    "lstm": (nn.LSTM(6, 4), "weight_ih_l0", "recurrent"),
    "gru": (nn.GRU(6, 4), "weight_ih_l0", "recurrent"),
    "cell": (nn.GRUCell(6, 4), "weight_hh", "recurrent"),
    "transposed": (nn.ConvTranspose1d(3, 4, 2), "weight", "transposed convolutions"),
    "embedding": (
        Net(lambda net, x: net.table((x[:, :, 0] > 0).long()), table=nn.Embedding(2, 4)),
        "table.weight",
        "embeddings",
    ),
    "spectral": (
        nn.utils.parametrizations.spectral_norm(nn.Linear(6, 4)),
        "parametrizations.weight.original",
        "computed",
    ),
    "old spectral": (nn.utils.spectral_norm(nn.Linear(6, 4)), "weight_orig", "computed"),
    "weight norm": (
        nn.utils.parametrizations.weight_norm(nn.Linear(6, 4)),
        "parametrizations.weight.original1",
        "computed",
    ),
    "standardised": (
        Net(
            lambda net, x: functional.linear(x, net.weight / net.weight.norm(dim=1, keepdim=True)),
            weight=torch.randn(4, 6),
        ),
        "weight",
        "not used as one matrix",
    ),
    "standardised module": (Standardised(6, 4), "weight", "computed"),
    "bilinear": (
        Net(lambda net, x: net.pair(x, x), pair=nn.Bilinear(6, 6, 4)),
        "pair.weight",
        "not used as one matrix",
    ),
    "never": (Net(lambda net, x: x * 1, idle=nn.Linear(6, 4)), "idle.weight", "never ran"),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_every_method_notes_the_same_layers_as_left_out(name):
    module, parameter, note = LEFT_OUT[name]

    def compute(net, x):
        found = net.left(x[:, 0] if isinstance(module, nn.GRUCell) else x)
        return net.fc(x) + (found[0] if isinstance(found, tuple) else found).sum()

    net = Net(compute, left=module, fc=nn.Linear(6, 4))
    for method in ("SiPP", "SNIP", "WT", "Wanda"):
        pruned = prune(
            net,
            [(X, X[:, 0, 0])],
            method=method,
            keep_ratio=0.9,
            loss=lambda outputs, targets: outputs.square().mean(),
        )
        assert note in pruned.left_out[f"left.{parameter}"]
        assert pruned.layers["layer"].tolist() == ["fc"]


def test_unexpectedly_left_out_layers_give_a_warning():
    net = Net(lambda net, x: net.fc(x), fc=nn.Linear(6, 4), idle=nn.Linear(6, 4))
    for method in ("WT", "SiPP"):
        with pytest.warns(
            UserWarning, match=r"not pruned: idle.weight \(its module never ran on the sample\)"
        ):
            experiment.prune(net, [X], method=method, keep_ratio=0.9)


def test_layers_that_run_only_on_some_batches_are_found():
    net = Net(
        lambda net, x: net.a(x) if x.sum() > 0 else net.b(x), a=nn.Linear(6, 4), b=nn.Linear(6, 4)
    )
    batches = [X.abs(), -X.abs()]
    assert list(find_layers(net, batches).prunable) == ["a", "b"]
    assert prune(net, batches).keep_ratio == 0.5
    same_sensitivities(
        experiment.sensitivities(net, batches), reference_sensitivities(net, batches, "mean")
    )


def test_a_net_without_prunable_layers_is_refused_with_notes():
    with pytest.raises(experiment.UserError, match=r"nothing to prune \(weight_ih_l0: recurrent"):
        prune(Net(lambda net, x: net.lstm(x)[0], lstm=nn.LSTM(6, 4)).lstm, [X])


@pytest.mark.parametrize("name", ["resnet20", "densenet22", "mobilenet_v2", "vit"])
def test_flops_are_those_of_torchs_counter(name):
    net = experiment.build_network(name, input_shape=(3, 32, 32), num_classes=10).eval()
    images = torch.randn(2, 3, 32, 32)
    layers = find_layers(net, [images]).prunable
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(images)
    counted = counter.get_flop_counts()
    by_layer = {path.partition(".")[2]: sum(flops.values()) for path, flops in counted.items()}
    assert {name: 2 * layer.flops for name, layer in layers.items()} == {
        name: by_layer[name] for name in layers
    }


def test_weights_in_other_memory_formats_and_precisions_are_found():
    net, images = SmallNet(), torch.randn(6, 3, 8, 8)
    expected = experiment.sensitivities(net, [images])
    same_sensitivities(
        experiment.sensitivities(net.to(memory_format=torch.channels_last), [images]), expected
    )
    half = copy.deepcopy(net).to(torch.bfloat16)
    found = experiment.sensitivities(half, [images.to(torch.bfloat16)])
    assert {name: score.shape for name, score in found.items()} == {
        name: score.shape for name, score in expected.items()
    }


def test_products_are_watched_in_the_order_in_which_they_run():
    net, seen = SmallNet(), []
    batches = [torch.randn(3, 3, 8, 8), torch.randn(2, 3, 8, 8)]
    watch(
        net,
        find_layers(net, batches).prunable,
        batches,
        lambda name, product, samples: seen.append((name, samples, list(product.inputs.shape))),
    )
    assert seen == [
        ("conv1", 3, [3, 3, 8, 8]),
        ("conv2", 3, [3, 8, 8, 8]),
        ("fc", 3, [3, 8]),
        ("conv1", 2, [2, 3, 8, 8]),
        ("conv2", 2, [2, 8, 8, 8]),
        ("fc", 2, [2, 8]),
    ]
