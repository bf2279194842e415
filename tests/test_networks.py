"""Every registered network: its number of parameters, forward and backward, other image sizes."""

import re
import sys

import pytest
import torch

import experiment
from experiment.config.loading import load_config
from experiment.core.errors import UserError
from experiment.core.registry import NETWORKS

SHAPES = {"MNIST": (1, 28, 28), "1x32x32 MNIST": (1, 32, 32), "CIFAR-10": (3, 32, 32)}

SLOW = (
    "resnet32",
    "resnet44",
    "resnet110",
    "densenet100",
    "vgg13_bn",
    "vgg16_bn",
    "vgg19_bn",
    "wrn28_10",
    "wrn16_8",
)


def build(name, shape, num_classes=10, **options):
    torch.manual_seed(0)
    return experiment.build_network(name, input_shape=shape, num_classes=num_classes, **options)


def size(net):
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize("name", NETWORKS.names())
def test_parameters_are_as_documented(name):
    count, data = re.search(r"([\d,]+) parameters on (.*)\.", NETWORKS.get(name).__doc__).groups()
    net = build(name, SHAPES[data])
    assert size(net) == int(count.replace(",", ""))


@pytest.mark.parametrize("name", NETWORKS.names())
@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 32, 32)])
def test_networks_adapt_to_the_data_or_say_why_not(name, shape):
    if name in SLOW:
        pytest.skip("slow, and the same code as a smaller network of its family")
    try:
        net = build(name, shape, num_classes=7)
    except UserError as error:
        assert shape == (1, 8, 8) and re.search(
            r"cannot take 8x8 images: the smallest size that works is", str(error)
        )
        return
    output = net(torch.rand(2, *shape))
    assert output.shape == (2, 7)
    output.sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet20", 183),
        ("resnet56", 194),
        ("resnet110", 196),
        ("vgg16_bn", 188),
        ("densenet22", 188),
        ("wrn28_2", 188),
        ("lenet300_100", 152),
    ],
)
def test_sample_sizes_of_the_paper(name, size):
    shape = (1, 28, 28) if name == "lenet300_100" else (3, 32, 32)
    assert experiment.sample_size(build(name, shape), torch.zeros(1, *shape)) == size


def test_sample_size_of_lenet5():
    assert experiment.sample_size(build("lenet5", (1, 32, 32)), torch.zeros(1, 1, 32, 32)) == 170


@pytest.mark.parametrize(
    ("name", "parameters"), [("resnet18", 11_689_512), ("resnet101", 44_549_160)]
)
def test_the_papers_imagenet_networks(name, parameters):
    assert size(build(name, (3, 224, 224), 1000)) == parameters


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mobilenet_v2", {"width_mult": 0.25}),
        ("googlenet", {}),
        ("squeezenet1_1", {"dropout": 0.0}),
        ("resnet18", {"replace_stride_with_dilation": [False] * 3}),
    ],
)
def test_torchvisions_models_adapt_to_channels_classes_and_options(name, options):
    net = build(name, (2, 40, 40), 7, **options)
    assert net.train()(torch.rand(2, 2, 40, 40)).shape == (2, 7)


def test_names_of_our_own_win_over_torchvisions():
    assert size(build("vgg11_bn", (3, 32, 32))) == 9_231_114
    assert "vgg11_bn" not in NETWORKS.collected_names() and "vgg11" in NETWORKS.collected_names()


@pytest.mark.parametrize(
    ("name", "shape", "options", "expected"),
    [
        (
            "resnet19",
            (3, 32, 32),
            {},
            r"unknown network 'resnet19'; did you mean 'resnet18'\? \(there are: .*torchvision",
        ),
        (
            "resnet18",
            (3, 32, 32),
            {"weights": "DEFAULT"},
            r"network resnet18: unknown option 'weights' \(its options: zero_init_residual, gr",
        ),
        ("resnet18", (3, 32, 32), {"groups": "two"}, r"groups: Input should be a valid integer"),
        (
            "resnext50_32x4d",
            (3, 32, 32),
            {"groups": 1},
            r"The parameter 'groups' expected value 32 but got 1",
        ),
        (
            "alexnet",
            (3, 32, 32),
            {},
            r"alexnet cannot take images of 3x32x32: .*Output size is too small",
        ),
        ("vit_b_16", (3, 32, 48), {}, r"vit_b_16 takes square images only, not 32x48"),
        (
            "vit",
            (3, 30, 32),
            {},
            r"vit cannot cut 30x32 images into patches of 4x4: patch_size must divide",
        ),
        (
            "vit",
            (3, 32, 32),
            {"width": 100},
            r"vit: width \(100\) must be a multiple of num_heads \(3\)",
        ),
        ("vit", (3, 32, 32), {"depth": 0}, r"depth: .* greater than or equal to 1"),
    ],
)
def test_networks_that_cannot_be_built_say_why(name, shape, options, expected):
    with pytest.raises(UserError, match=expected) as error:
        build(name, shape, **options)
    assert "\n" not in str(error.value) and len(str(error.value)) < 700


def test_every_projection_of_a_vit_can_be_pruned():
    net = build("vit", (3, 8, 8), depth=1, width=24)
    pruned = experiment.prune(net, [torch.rand(8, 3, 8, 8)], method="SiPP", keep_ratio=0.5)
    assert pruned.keep_ratio == pytest.approx(0.5, rel=0.005)
    assert len(pruned.layers) == 1 + 6 + 1 and (pruned.layers["keep_ratio"] < 1).all()


OWN_NETWORKS = """
from torch import nn


class Plain(nn.Sequential):
    def __init__(
        self, hidden, sizes: tuple[int, ...] = (3, 3), activation=nn.ReLU, _private=1, name="n",
        copy=False, strange: "NoSuchType" = None, num_classes: int = 10,
    ):
        layers = nn.Linear(12, hidden), activation(), nn.Linear(hidden, num_classes)
        super().__init__(nn.Flatten(), *layers)
        self.sizes = sizes


class Everything(nn.Sequential):
    def __init__(self, *layers, **options):
        super().__init__(*layers, nn.Flatten(), nn.Linear(12, options.pop("num_outputs", 10)))


class Named(nn.Module):
    def __init__(self, name):
        super().__init__()


class Failing(nn.Module):
    def __init__(self, depth=1):
        super().__init__()
        raise IndexError("no such layer")


def text(num_classes):
    return "net"


net = Everything()
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_networks.py").write_text(OWN_NETWORKS)
    (tmp_path / "own_broken.py").write_text("undefined")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("own_networks", None)


def test_classes_of_ones_own_with_odd_constructors(own):
    net = build("own_networks:Plain", (3, 2, 2), 7, hidden=5, sizes=[1, 2])
    assert net(torch.rand(1, 3, 2, 2)).shape == (1, 7) and net.sizes == (1, 2)
    assert build("own_networks:Everything", (3, 2, 2), num_outputs=4)(
        torch.rand(1, 3, 2, 2)
    ).shape == (1, 4)
    path = own / "a.yaml"
    path.write_text("network: {name: 'own_networks:Plain', hidden: 5}\n")
    config = load_config(path)  # the activation is no plain data and left to the class
    assert config.network.options == {"hidden": 5, "sizes": (3, 3), "copy": False, "strange": None}
    assert config.network.name == "own_networks:Plain" and config.run_id()
    path.write_text("network: {name: 'own_networks:Plain'}\n")
    with pytest.raises(UserError, match=r"^[^\n]*a.yaml:1: network.hidden: is missing$"):
        load_config(path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "own_networks:Plain",
            r"own_networks:Plain: option 'hidden' is missing "
            r"\(its options: hidden, sizes, activation,",
        ),
        ("own_networks:Named", r"needs an argument 'name', which no option can give"),
        (
            "own_networks:Failing",
            r"cannot be made with \(depth=1\): IndexError: no such layer \(.*own_networks.py, line",
        ),
        ("own_networks:text", r"own_networks:text returned a str, not a torch.nn.Module"),
        ("own_networks:net", r"'own_networks:net' is of type Everything, not a class or function"),
        (
            "own_networks:Plan",
            r"cannot import network 'own_networks:Plan': AttributeError: .*no attribute 'Plan'",
        ),
        (
            "own_broken:Net",
            r"cannot import network 'own_broken:Net': NameError: name 'undefined' is not defined",
        ),
    ],
)
def test_networks_of_ones_own_that_are_none(own, name, expected):
    with pytest.raises(UserError, match=expected) as error:
        build(name, (3, 2, 2))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [name for name in NETWORKS.names() if "110" not in name])
def test_what_modules_return_is_not_changed_later(name):
    """People keep outputs of modules, and gradients, by hooks."""
    torch.manual_seed(0)
    net = experiment.build_network(name, input_shape=(3, 32, 32), num_classes=4)
    kept = []
    for module in net.modules():
        if not list(module.children()):
            module.register_forward_hook(
                lambda module, inputs, output: kept.append((output.detach(), output.detach() + 0))
            )
            module.register_full_backward_hook(lambda module, before, after: None)
    net(torch.randn(2, 3, 32, 32, requires_grad=True)).sum().backward()
    assert len(kept) > 2
    assert all(torch.equal(output, copied) for output, copied in kept)
