"""Build the densely connected networks (DenseNet-BC) of Huang et al. 2017 for CIFAR."""

import torch
from torch import nn
from torch.nn import functional as F

from experiment.core.registry import NETWORKS
from experiment.nets.image_size import require_image_size
from experiment.nets.initialisation import initialise_by_fan_out

GROWTH = 12


class DenseLayer(nn.Module):
    """Append GROWTH new channels to the input, by a 1x1 conv to 4 x GROWTH and a 3x3 conv."""

    def __init__(self, in_channels: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, 4 * GROWTH, kernel_size=1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * GROWTH)
        self.conv2 = nn.Conv2d(4 * GROWTH, GROWTH, kernel_size=3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        new = self.conv1(F.relu(self.bn1(x)))
        new = self.conv2(F.relu(self.bn2(new)))
        return torch.cat([x, new], dim=1)


class Transition(nn.Module):
    """Halve the channels with a 1x1 conv and the size with average pooling."""

    def __init__(self, in_channels: int):
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(in_channels, in_channels // 2, kernel_size=1, bias=False)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(self.conv(F.relu(self.bn(x))))


def make_dense_block(in_channels: int, num_layers: int) -> nn.Sequential:
    """Stack `num_layers` layers, each of which sees the outputs of all before it."""
    return nn.Sequential(*[DenseLayer(in_channels + GROWTH * index) for index in range(num_layers)])


class CifarDenseNet(nn.Module):
    """Classify with three dense blocks of `num_layers` layers and transitions between them."""

    def __init__(self, num_layers: int, in_channels: int, num_classes: int):
        super().__init__()
        first = 2 * GROWTH
        grown = GROWTH * num_layers
        second = (first + grown) // 2
        third = (second + grown) // 2
        self.conv1 = nn.Conv2d(in_channels, first, kernel_size=3, padding=1, bias=False)
        self.block1 = make_dense_block(first, num_layers)
        self.transition1 = Transition(first + grown)
        self.block2 = make_dense_block(second, num_layers)
        self.transition2 = Transition(second + grown)
        self.block3 = make_dense_block(third, num_layers)
        self.bn = nn.BatchNorm2d(third + grown)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(third + grown, num_classes)
        initialise_by_fan_out(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.transition1(self.block1(self.conv1(x)))
        x = self.transition2(self.block2(x))
        x = F.relu(self.bn(self.block3(x)))
        return self.fc(self.avgpool(x).flatten(1))


@NETWORKS.register
def densenet22(*, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """DenseNet-BC of depth 22 and growth 12; 71,686 parameters on CIFAR-10."""
    require_image_size("densenet22", input_shape, smallest=4)
    return CifarDenseNet(3, input_shape[0], num_classes)


@NETWORKS.register
def densenet100(*, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """DenseNet-BC of depth 100 and growth 12; 769,162 parameters on CIFAR-10.

    Huang et al. 2017, table 2.
    """
    require_image_size("densenet100", input_shape, smallest=4)
    return CifarDenseNet(16, input_shape[0], num_classes)
