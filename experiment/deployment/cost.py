"""What a net costs: parameters, multiplications, and bytes of its file."""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from experiment.nets.layers import find_layers
from experiment.nets.running import copy_of, evaluating


@dataclass(frozen=True)
class Cost:
    """The size of a net. A MAC is one multiplication with its addition, which are two FLOPs."""

    parameters: int  # that are stored, zeros included
    nonzero_parameters: int
    macs: int  # for one image, those with zeros included: what dense kernels do
    nonzero_macs: int  # those, less the ones with weights of 0 in linear and convolutional layers

    @classmethod
    def of(cls, net: nn.Module, images: Tensor) -> "Cost":
        """That of a net for one of these images."""
        copy = copy_of(net)
        image = images[:1]
        with FlopCounterMode(display=False) as counter, evaluating(copy), torch.no_grad():
            copy(image)
        layers = find_layers(copy, [(image, None)]).prunable.values()
        gone = sum(layer.flops * (1 - _share_nonzero(layer.weight(copy))) for layer in layers)
        parameters = list(copy.parameters())
        macs = counter.get_total_flops() // 2
        return cls(
            parameters=sum(one.numel() for one in parameters),
            nonzero_parameters=sum(int(one.count_nonzero()) for one in parameters),
            macs=macs,
            nonzero_macs=macs - round(gone / 2),
        )


@dataclass(frozen=True)
class FileSize:
    """Bytes of the files of a net."""

    plain: int
    compressed: int  # by zlib, as in a .zip or .gz

    @classmethod
    def of(cls, paths: Iterable[Path]) -> "FileSize":
        contents = [path.read_bytes() for path in paths]
        return cls(
            plain=sum(map(len, contents)),
            compressed=sum(len(zlib.compress(content)) for content in contents),
        )


def _share_nonzero(weight: Tensor) -> float:
    return int(weight.count_nonzero()) / max(weight.numel(), 1)
