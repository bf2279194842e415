"""What removing channels does to the outputs of their readers (ThiNet, arXiv:1707.06342).

At a point a, channel c contributes x[f, c] = sum_{k of c} W[f, k] a[k] to filter f. Removing the
channels T costs the squared error sum over points and filters of (sum_{c in T} x[f, c])^2, which is
the sum of G over T x T with the Gram matrix G[c, d] = sum x[f, c] x[f, d]. G is computed as
((W^T W) * (A A^T)) summed over the k of c and of d.
"""

from collections.abc import Iterable
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from experiment.channels.channels import Channels
from experiment.core.seeding import Stream
from experiment.nets.layers import PrunableLayer
from experiment.sensitivity.points import sampled_points

BLOCK_FLOATS = 2**24  # how many products are computed at a time
SMALLEST_ENERGY = 1e-300


def gram_matrices(
    net: nn.Module,
    layers: dict[str, PrunableLayer],
    batches: Iterable[Any],
    channels: Channels,
    points_per_sample: int,
    stream: Stream,
) -> list[numpy.ndarray]:
    """G [channels, channels] of each group of channels, relative to the outputs of their readers.

    If several layers read a group, their relative errors are added. For each layer,
    `points_per_sample` points of each sample are drawn from `stream`.
    """
    readers = {name: layer for name, layer in layers.items() if name in channels.columns}
    points = sampled_points(net, readers, batches, points_per_sample, stream)
    result = [numpy.zeros((size, size)) for size in channels.sizes]
    for name, sampled in points.items():
        weight = layers[name].weight(net).detach().float()
        channel = channels.columns[name]
        gram, energy = _gram(weight, sampled.points[0], channel)  # removable channels: one group
        _add_to_groups(result, gram / max(energy, SMALLEST_ENERGY), channel, channels)
    return result


def _add_to_groups(
    result: list[numpy.ndarray], gram: numpy.ndarray, channel: numpy.ndarray, channels: Channels
) -> None:
    """Add a layer's matrix, over the channels that it reads in ascending order, group by group."""
    read = numpy.unique(channel[channel >= 0])
    for group in numpy.unique(channels.group[read]):
        in_group = channels.group[read] == group
        index = read[in_group] - channels.groups[group].start
        result[group][numpy.ix_(index, index)] += gram[numpy.ix_(in_group, in_group)]


def _gram(weight: Tensor, points: Tensor, channel: numpy.ndarray) -> tuple[numpy.ndarray, float]:
    """G over the channels that a layer reads, and the sum of the squares of its outputs.

    The channels are in ascending order. `channel` is that of each column (dimension 1) of the
    weight, and `points` are [K, points].
    """
    weight = weight.flatten(1)
    patch_size = weight.shape[1]
    _, rank = numpy.unique(numpy.append(-1, channel), return_inverse=True)
    by_input = numpy.repeat(rank[1:], patch_size // len(channel))  # 0: no removable channel
    index = torch.from_numpy(by_input).to(weight.device)
    size = int(index.max()) + 1
    result = torch.zeros(size, size, dtype=torch.float64, device=weight.device)
    block_rows = max(1, BLOCK_FLOATS // patch_size)
    for rows in torch.arange(patch_size, device=weight.device).split(block_rows):
        products = (weight[:, rows].T @ weight) * (points[rows] @ points.T)
        by_channel = torch.zeros(len(rows), size, dtype=torch.float64, device=weight.device)
        by_channel.index_add_(1, index, products.double())
        result.index_add_(0, index[rows], by_channel)
    return result[1:, 1:].cpu().numpy(), float(result.sum())


def greedy_removal(gram: numpy.ndarray) -> numpy.ndarray:
    """The order in which channels are removed so that each adds the least error; ties go by index.

    Removing c after T adds G[c, c] + 2 sum_{t in T} G[t, c]. That sum is updated at every step, so
    that a step takes one addition per channel.
    """
    cost = gram.diagonal().copy()
    order = numpy.empty(len(gram), dtype=numpy.int64)
    for step in range(len(gram)):
        chosen = int(numpy.argmin(cost))
        order[step] = chosen
        cost = cost + 2 * gram[chosen]
        cost[order[: step + 1]] = numpy.inf
    return order
