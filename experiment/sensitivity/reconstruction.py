"""What removing channels does to the outputs of the layers that read them, over a sample (ThiNet, arXiv:1707.06342).

At a point a, channel c contributes x[f, c] = sum_{k of c} W[f, k] a[k] to filter f. Removing the channels T costs the
squared error sum over points and filters of (sum_{c in T} x[f, c])^2, the sum of G over T x T with the Gram matrix
G[c, d] = sum x[f, c] x[f, d]. It is computed as ((W^T W) * (A A^T)) summed over the k of c and of d.
"""

from collections.abc import Iterable
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from experiment.channels.channels import Channels
from experiment.core.seeding import Stream
from experiment.nets.layers import PrunableLayer, watch
from experiment.nets.products import Product
from experiment.sensitivity.points import some_points

BLOCK_FLOATS = 2**24  # of the products computed at a time


def gram_matrices(
    net: nn.Module,
    layers: dict[str, PrunableLayer],
    batches: Iterable[Any],
    channels: Channels,
    points_per_sample: int,
    stream: Stream,
) -> list[numpy.ndarray]:
    """For each group of channels its G [channels, channels], relative to what the layers that read it put out.

    Where several layers read a group, their relative errors are added. At each layer `points_per_sample` points of
    each sample, drawn from `stream`, are looked at.
    """
    readers = {name: layer for name, layer in layers.items() if name in channels.columns}
    points = sampled_points(net, readers, batches, points_per_sample, stream)
    result = [numpy.zeros((size, size)) for size in channels.sizes]
    for name, columns in points.items():
        channel = channels.columns[name]
        gram, energy = _gram(layers[name].weight(net).detach().float(), columns, channel)
        present = numpy.unique(channel[channel >= 0])
        for group in numpy.unique(channels.group[present]):
            where = channels.group[present] == group
            inside = present[where] - channels.groups[group].start
            result[group][numpy.ix_(inside, inside)] += gram[numpy.ix_(where, where)] / max(
                energy, 1e-300
            )
    return result


def sampled_points(
    net: nn.Module,
    layers: dict[str, PrunableLayer],
    batches: Iterable[Any],
    per_sample: int,
    stream: Stream,
) -> dict[str, Tensor]:
    """By layer (without groups), points [K, points] of the net's activations: up to `per_sample` of
    each sample."""
    chosen: dict[str, list[Tensor]] = {name: [] for name in layers}
    generators = {name: stream.child(name).generator() for name in layers}

    def keep_some(name: str, product: Product, num_samples: int) -> None:
        points = some_points(
            product, product.inputs.float(), num_samples, per_sample, generators[name]
        )
        chosen[name].append(points[0])

    watch(net, layers, batches, keep_some)
    return {name: torch.cat(pieces, 1) for name, pieces in chosen.items() if pieces}


def _gram(weight: Tensor, points: Tensor, channel: numpy.ndarray) -> tuple[numpy.ndarray, float]:
    """G over the channels of a layer, in ascending order, and the sum of the squares of its outputs."""
    weight = weight.flatten(1)
    _, local = numpy.unique(
        numpy.append(-1, channel), return_inverse=True
    )  # 0: no removable channel
    local = torch.from_numpy(numpy.repeat(local[1:], weight.shape[1] // len(channel))).to(
        weight.device
    )
    number = int(local.max()) + 1
    result = torch.zeros(number, number, dtype=torch.float64, device=weight.device)
    for rows in torch.arange(weight.shape[1], device=weight.device).split(
        max(1, BLOCK_FLOATS // weight.shape[1])
    ):
        products = (weight[:, rows].T @ weight) * (points[rows] @ points.T)
        by_channel = torch.zeros(len(rows), number, dtype=torch.float64, device=weight.device)
        by_channel.index_add_(1, local, products.double())
        result.index_add_(0, local[rows], by_channel)
    return result[1:, 1:].cpu().numpy(), float(result.sum())


def greedy_removal(gram: numpy.ndarray) -> numpy.ndarray:
    """Channels in the order in which they are best removed, each so that the error grows least; ties go by index.

    Removing c after T costs G[c, c] + 2 sum_{t in T} G[t, c] more. That sum is carried along, so that a step costs one
    addition a channel and no error is evaluated anew.
    """
    cost, order = gram.diagonal().copy(), numpy.empty(len(gram), dtype=numpy.int64)
    for step in range(len(gram)):
        order[step] = chosen = int(numpy.argmin(cost))
        cost = cost + 2 * gram[chosen]
        cost[order[: step + 1]] = numpy.inf
    return order
