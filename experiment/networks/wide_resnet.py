"""Build the wide residual networks of Zagoruyko & Komodakis 2016 for CIFAR, without dropout."""

import torch
from torch import nn
from torch.nn import functional as F

from experiment.core.registry import NETWORKS
from experiment.nets.initialisation import initialise_by_fan_out
from experiment.networks.resnet import make_stage


class PreactivationBlock(nn.Module):
    """Add two 3x3 convs, each after BatchNorm and ReLU, to the shortcut."""

    expansion = 1

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(
            in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False
        )
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.shortcut = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(
                in_channels, out_channels, kernel_size=1, stride=stride, bias=False
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        activated = F.relu(self.bn1(x))
        # A conv on the shortcut reads the activation, as the residual does; the identity reads x.
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        out = self.conv1(activated)
        return self.conv2(F.relu(self.bn2(out))) + shortcut


class WideResNet(nn.Module):
    """Classify with three stages of (depth - 4) / 6 blocks each.

    The stages are 16, 32 and 64 times `widening` channels wide.
    """

    def __init__(self, depth: int, widening: int, in_channels: int, num_classes: int):
        super().__init__()
        num_blocks = (depth - 4) // 6
        width = 16 * widening
        # The first conv is not widened (table 1 of the paper).
        self.conv1 = nn.Conv2d(in_channels, 16, kernel_size=3, padding=1, bias=False)
        self.layer1 = make_stage(PreactivationBlock, 16, width, num_blocks, stride=1)
        self.layer2 = make_stage(PreactivationBlock, width, width * 2, num_blocks, stride=2)
        self.layer3 = make_stage(PreactivationBlock, width * 2, width * 4, num_blocks, stride=2)
        self.bn = nn.BatchNorm2d(width * 4)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width * 4, num_classes)
        initialise_by_fan_out(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        x = F.relu(self.bn(x))
        return self.fc(self.avgpool(x).flatten(1))


@NETWORKS.register
def wrn16_8(*, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """WRN-16-8; 10,961,370 parameters on CIFAR-10."""
    return WideResNet(16, 8, input_shape[0], num_classes)


@NETWORKS.register
def wrn28_2(*, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """WRN-28-2; 1,467,610 parameters on CIFAR-10."""
    return WideResNet(28, 2, input_shape[0], num_classes)


@NETWORKS.register
def wrn28_10(*, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """WRN-28-10; 36,479,194 parameters on CIFAR-10."""
    return WideResNet(28, 10, input_shape[0], num_classes)
