"""Sensitivities of channels, from those of the weights that read them (PFP, arXiv:1911.07412, Section 3)."""

import numpy
import torch
from torch import Tensor

from experiment.channels.channels import Channels


def channel_sensitivities(channels: Channels, sensitivities: dict[str, Tensor]) -> numpy.ndarray:
    """For each channel [channels] the largest of the max-reduced sensitivities, by layer, of all weights that read it.

    These are maxima over points, filters and kernel positions, and, where several layers read a channel, over these.
    """
    result = numpy.zeros(channels.number)
    for name, channel in channels.columns.items():
        if name in sensitivities:
            by_column = (
                torch.amax(sensitivities[name].transpose(0, 1).flatten(1), 1).double().cpu().numpy()
            )
            used = channel >= 0
            numpy.maximum.at(result, channel[used], by_column[used])
    return result
