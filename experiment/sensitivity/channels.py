"""Sensitivities of channels, from those of the weights that read them.

PFP, arXiv:1911.07412, Section 3.
"""

import numpy
import torch
from torch import Tensor

from experiment.channels.channels import Channels


def channel_sensitivities(channels: Channels, sensitivities: dict[str, Tensor]) -> numpy.ndarray:
    """The largest sensitivity of all weights that read each channel, [channels].

    `sensitivities` are max-reduced, by layer. The result is a maximum over points, filters and
    kernel positions, and over layers if several read a channel.
    """
    result = numpy.zeros(channels.num_channels)
    for name, channel in channels.columns.items():
        if name in sensitivities:
            columns = sensitivities[name].transpose(0, 1).flatten(1)
            by_column = torch.amax(columns, 1).double().cpu().numpy()
            is_removable = channel >= 0
            numpy.maximum.at(result, channel[is_removable], by_column[is_removable])
    return result
