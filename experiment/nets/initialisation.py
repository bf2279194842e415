"""How the CIFAR networks are initialised."""

import math

import torch
from torch import nn


@torch.no_grad()
def initialise_by_fan_out(net: nn.Module) -> nn.Module:
    """Draw weights from a normal distribution of std sqrt(2 / (kernel area x out channels)).

    He et al. 2015, equation 14 (a linear layer has kernel area 1). BatchNorm starts at 1 and 0,
    biases at 0. Returns `net`.
    """
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            # A weight is (out, in, *kernel): one input is read by kernel area x out entries.
            fan_out = module.weight.shape[0] * math.prod(module.weight.shape[2:])
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    return net
