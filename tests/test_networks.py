"""Every registered network: its documented number of parameters, forward and backward, other image sizes."""

import re

import pytest
import torch

import experiment
from experiment.errors import UserError
from experiment.registry import NETWORKS

SHAPES = {"MNIST": (1, 28, 28), "1x32x32 MNIST": (1, 32, 32), "CIFAR-10": (3, 32, 32)}


def build(name, shape, num_classes=10):
    torch.manual_seed(0)
    return experiment.build_network(name, input_shape=shape, num_classes=num_classes)


@pytest.mark.parametrize("name", NETWORKS.names())
def test_parameters_are_as_documented(name):
    count, data = re.search(r"([\d,]+) parameters on (.*)\.", NETWORKS.get(name).__doc__).groups()
    net = build(name, SHAPES[data])
    assert sum(parameter.numel() for parameter in net.parameters()) == int(count.replace(",", ""))


@pytest.mark.parametrize("name", NETWORKS.names())
@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 32, 32)])
def test_networks_adapt_to_the_data_or_say_why_not(name, shape):
    if name in ("wrn28_10", "wrn16_8") and shape == (2, 32, 32):
        pytest.skip("slow, and the same code as wrn28_2")
    try:
        net = build(name, shape, num_classes=7)
    except UserError as error:
        assert shape == (1, 8, 8) and re.search(r"cannot take 8x8 images: the smallest size that works is", str(error))
        return
    output = net(torch.rand(2, *shape))
    assert output.shape == (2, 7)
    output.sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize(("name", "size"), [("resnet20", 183), ("resnet56", 194), ("resnet110", 196),
                                            ("vgg16_bn", 188), ("densenet22", 188), ("wrn28_2", 188),
                                            ("lenet300_100", 152)])
def test_sample_sizes_of_the_paper(name, size):
    shape = (1, 28, 28) if name == "lenet300_100" else (3, 32, 32)
    assert experiment.sample_size(build(name, shape), torch.zeros(1, *shape)) == size


def test_sample_size_of_lenet5():
    assert experiment.sample_size(build("lenet5", (1, 32, 32)), torch.zeros(1, 1, 32, 32)) == 170
