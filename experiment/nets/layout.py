"""How the numbers of images and filters lie in memory: channel by channel, or pixel by pixel."""

import torch
from torch import Tensor, nn

from experiment.core.errors import UserError
from experiment.nets.running import copy_of, device_of, run, run_in_eval_mode

CHANNELS_LAST_DEVICES = {"cpu", "cuda"}  # where training with the channels last is faster


def lay_out_for_speed(net: nn.Module, example: tuple[Tensor, Tensor]) -> nn.Module:
    """The net, in place, in the layout in which it runs fastest on its device.

    Nets that cannot run on the batch `example`, of at least two images, in that layout keep theirs:
    `x.view(len(x), -1)` after a convolution is an error if the channels come last.
    """
    if device_of(net).type not in CHANNELS_LAST_DEVICES:
        return net
    _lay_out(net, torch.channels_last)
    if has_channels_last(net) and not _runs(net, example):
        lay_out_by_default(net)
    return net


def lay_out_by_default(net: nn.Module) -> nn.Module:
    """The net, in place, with every parameter laid out as torch does by default."""
    return _lay_out(net, torch.contiguous_format)


def has_channels_last(net: nn.Module) -> bool:
    """Whether a net's convolutions expect images whose channels come last in memory."""
    return any(
        parameter.dim() == 4
        and not parameter.is_contiguous()
        and parameter.is_contiguous(memory_format=torch.channels_last)
        for parameter in net.parameters()
    )


def as_laid_out(images: Tensor, channels_last: bool) -> Tensor:
    """Images [N, C, H, W] in the layout of a net."""
    if not channels_last or images.dim() != 4:
        return images
    return images.contiguous(memory_format=torch.channels_last)


def _lay_out(net: nn.Module, layout: torch.memory_format) -> nn.Module:
    for parameter in net.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=layout)
    return net


def _runs(net: nn.Module, example: tuple[Tensor, Tensor]) -> bool:
    """Whether a net runs with the channels last, in training and in evaluation."""
    images, targets = example
    batch = (as_laid_out(images, True), targets)
    try:
        with torch.no_grad():
            run(copy_of(net).train(), batch)
        run_in_eval_mode(net, batch)
    except UserError:
        return False
    return True
