"""Build the residual networks of He et al. 2016 for CIFAR; module names are torchvision's."""

from typing import Annotated, Protocol

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional as F

from experiment.core.registry import NETWORKS
from experiment.nets.initialisation import initialise_by_fan_out

Width = Annotated[int, Field(ge=1, le=4096)]  # channels of the first stage


class BlockClass(Protocol):
    """A class of residual blocks; a block gives `expansion` times `width` channels."""

    expansion: int

    def __call__(self, in_channels: int, width: int, stride: int, /) -> nn.Module: ...


def make_shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    """Return a 1x1 conv + BatchNorm where the shape changes, else None (the identity)."""
    if stride == 1 and in_channels == out_channels:
        return None
    conv = nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


class BasicBlock(nn.Module):
    """Add two 3x3 convs to the shortcut; activate after the sum."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(
            in_channels, width, kernel_size=3, stride=stride, padding=1, bias=False
        )
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = make_shortcut(in_channels, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu_(self.bn2(self.conv2(out)) + shortcut)


class Bottleneck(nn.Module):
    """Add a 1x1, a 3x3 and a widening 1x1 conv to the shortcut; activate after the sum."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int):
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = make_shortcut(in_channels, out_channels, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu_(self.bn3(self.conv3(out)) + shortcut)


def make_stage(
    block: BlockClass, in_channels: int, width: int, num_blocks: int, stride: int
) -> nn.Sequential:
    """Stack `num_blocks` blocks, of which the first changes the shape."""
    rest = [block(width * block.expansion, width, 1) for _ in range(num_blocks - 1)]
    return nn.Sequential(block(in_channels, width, stride), *rest)


class CifarResNet(nn.Module):
    """Classify with three stages of `num_blocks` blocks each.

    Between stages the width doubles and the size of the images halves.
    """

    def __init__(
        self,
        block: BlockClass,
        num_blocks: int,
        in_channels: int,
        num_classes: int,
        width: int,
    ):
        super().__init__()
        expansion = block.expansion
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = make_stage(block, width, width, num_blocks, stride=1)
        self.layer2 = make_stage(block, width * expansion, width * 2, num_blocks, stride=2)
        self.layer3 = make_stage(block, width * 2 * expansion, width * 4, num_blocks, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width * 4 * expansion, num_classes)
        initialise_by_fan_out(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.avgpool(x).flatten(1))


@NETWORKS.register
def resnet20(
    *, input_shape: tuple[int, int, int], num_classes: int, width: Width = 16
) -> nn.Module:
    """ResNet-20 of He et al. 2016 (section 4.2); 272,474 parameters on CIFAR-10."""
    return CifarResNet(BasicBlock, 3, input_shape[0], num_classes, width)


@NETWORKS.register
def resnet32(
    *, input_shape: tuple[int, int, int], num_classes: int, width: Width = 16
) -> nn.Module:
    """ResNet-32 of He et al. 2016 (section 4.2); 466,906 parameters on CIFAR-10."""
    return CifarResNet(BasicBlock, 5, input_shape[0], num_classes, width)


@NETWORKS.register
def resnet44(
    *, input_shape: tuple[int, int, int], num_classes: int, width: Width = 16
) -> nn.Module:
    """ResNet-44 of He et al. 2016 (section 4.2); 661,338 parameters on CIFAR-10."""
    return CifarResNet(BasicBlock, 7, input_shape[0], num_classes, width)


# The two below have the paper's number of blocks, but not its blocks: the SiPP experiments used
# bottlenecks.
@NETWORKS.register
def resnet56(
    *, input_shape: tuple[int, int, int], num_classes: int, width: Width = 16
) -> nn.Module:
    """ResNet-56 with 9 bottleneck blocks a stage; 869,530 parameters on CIFAR-10."""
    return CifarResNet(Bottleneck, 9, input_shape[0], num_classes, width)


@NETWORKS.register
def resnet110(
    *, input_shape: tuple[int, int, int], num_classes: int, width: Width = 16
) -> nn.Module:
    """ResNet-110 with 18 bottleneck blocks a stage; 1,704,154 parameters on CIFAR-10."""
    return CifarResNet(Bottleneck, 18, input_shape[0], num_classes, width)
