"""Build the VGG networks of Simonyan & Zisserman 2015 with BatchNorm, for images from 32x32 on."""

import torch
from torch import nn

from experiment.core.registry import NETWORKS
from experiment.nets.image_size import require_image_size
from experiment.nets.initialisation import initialise_by_fan_out

WIDTHS = (64, 128, 256, 512, 512)


def make_features(in_channels: int, convs_per_stage: tuple[int, ...]) -> nn.Sequential:
    """Stack five stages of 3x3 conv + BatchNorm + ReLU, each closed by a max-pool."""
    layers: list[nn.Module] = []
    for width, num_convs in zip(WIDTHS, convs_per_stage, strict=True):
        for _ in range(num_convs):
            conv = nn.Conv2d(in_channels, width, kernel_size=3, padding=1)
            layers += [conv, nn.BatchNorm2d(width), nn.ReLU()]
            in_channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


class Vgg(nn.Module):
    """Classify with five conv stages, global average pooling and one linear layer."""

    def __init__(self, convs_per_stage: tuple[int, ...], in_channels: int, num_classes: int):
        super().__init__()
        self.features = make_features(in_channels, convs_per_stage)
        # A 32x32 image is a single pixel here; pooling lets larger ones keep the same classifier.
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(WIDTHS[-1], num_classes)
        initialise_by_fan_out(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def build_vgg(
    name: str, convs_per_stage: tuple[int, ...], input_shape: tuple[int, int, int], num_classes: int
) -> nn.Module:
    """Return a VGG, or raise UserError where five max-pools do not fit the image."""
    require_image_size(name, input_shape, smallest=2 ** len(convs_per_stage))
    return Vgg(convs_per_stage, input_shape[0], num_classes)


@NETWORKS.register
def vgg11_bn(*, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """VGG-11 (configuration A) with BatchNorm; 9,231,114 parameters on CIFAR-10."""
    return build_vgg("vgg11_bn", (1, 1, 2, 2, 2), input_shape, num_classes)


@NETWORKS.register
def vgg13_bn(*, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """VGG-13 (configuration B) with BatchNorm; 9,416,010 parameters on CIFAR-10."""
    return build_vgg("vgg13_bn", (2, 2, 2, 2, 2), input_shape, num_classes)


@NETWORKS.register
def vgg16_bn(*, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """VGG-16 (configuration D) with BatchNorm; 14,728,266 parameters on CIFAR-10."""
    return build_vgg("vgg16_bn", (2, 2, 3, 3, 3), input_shape, num_classes)


@NETWORKS.register
def vgg19_bn(*, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """VGG-19 (configuration E) with BatchNorm; 20,040,522 parameters on CIFAR-10."""
    return build_vgg("vgg19_bn", (2, 2, 4, 4, 4), input_shape, num_classes)
