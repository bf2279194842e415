"""Build the small networks for MNIST; they keep torch's default initialisation."""

import math
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from experiment.core.registry import NETWORKS
from experiment.nets.image_size import require_image_size


class FullyConnected(nn.Sequential):
    """Flatten the input and apply linear layers `fc1`, `fc2`, ... with ReLUs between them."""

    def __init__(self, num_features: list[int]):
        super().__init__()
        self.add_module("flatten", nn.Flatten())
        for index, (num_inputs, num_outputs) in enumerate(pairwise(num_features), start=1):
            if index > 1:
                self.add_module(f"relu{index - 1}", nn.ReLU())
            self.add_module(f"fc{index}", nn.Linear(num_inputs, num_outputs))


class LeNet5(nn.Module):
    """Classify with two convs and poolings, a conv over the remaining map and two linear layers."""

    def __init__(self, input_shape: tuple[int, int, int], num_classes: int):
        super().__init__()
        channels, *image_size = input_shape
        # The map before the second pooling: a 3x3 conv, a pooling that halves and a 3x3 conv.
        height, width = [(size - 2) // 2 - 2 for size in image_size]
        # On 8x8 images that map is a single pixel: a window of 1 leaves it as it is.
        window = (min(2, height), min(2, width))
        remaining = (height // window[0], width // window[1])
        self.conv1 = nn.Conv2d(channels, 6, kernel_size=3)
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 16, kernel_size=3)
        self.pool2 = nn.MaxPool2d(window)
        self.conv3 = nn.Conv2d(16, 120, kernel_size=remaining)
        self.fc1 = nn.Linear(120, 84)
        self.fc2 = nn.Linear(84, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool1(F.relu(self.conv1(x)))
        x = self.pool2(F.relu(self.conv2(x)))
        x = F.relu(self.conv3(x)).flatten(1)
        return self.fc2(F.relu(self.fc1(x)))


@NETWORKS.register
def lenet300_100(*, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """LeNet-300-100 of LeCun et al. 1998, with ReLU; 266,610 parameters on MNIST."""
    return FullyConnected([math.prod(input_shape), 300, 100, num_classes])


@NETWORKS.register
def fcnet_nettrim(*, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Fully connected network of Net-Trim (Aghasi et al. 2017); 637,610 parameters on MNIST."""
    return FullyConnected([math.prod(input_shape), 300, 1000, 100, num_classes])


@NETWORKS.register
def lenet5(*, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """LeNet-5 with 3x3 convs and ReLU; 81,194 parameters on 1x32x32 MNIST.

    After LeCun et al. 1998.
    """
    require_image_size("lenet5", input_shape, smallest=8)
    return LeNet5(input_shape, num_classes)
