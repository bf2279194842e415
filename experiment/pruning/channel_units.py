"""The groups of a net's channels as units, with the sensitivities of the channels."""

import numpy

from experiment.allocation.units import Units, channel_groups
from experiment.pruning.analysis import Analysis
from experiment.sensitivity.channels import channel_sensitivities


def channel_units(analysis: Analysis, alive: numpy.ndarray) -> Units:
    """One unit per group of channels; channels that are not `alive` [channels] have no importance.

    Of the layers that read a group, the largest number of patches and of kernel positions count.
    """
    channels = analysis.channels
    importance = channel_sensitivities(channels, analysis.sensitivities("max"))
    num_groups = len(channels.sizes)
    patches = numpy.ones(num_groups, dtype=int)
    kernel_sizes = numpy.ones(num_groups, dtype=int)
    for name, channel in channels.columns.items():
        if name not in analysis.layers:
            continue
        layer = analysis.layers[name]
        groups = numpy.unique(channels.group[channel[channel >= 0]])
        patches[groups] = numpy.maximum(patches[groups], layer.num_patches)
        kernel_sizes[groups] = numpy.maximum(kernel_sizes[groups], layer.shape[2:].numel())
    importance = numpy.where(alive, importance, 0)
    return channel_groups(importance, channels.sizes, patches, kernel_sizes, analysis.delta)
