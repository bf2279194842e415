"""The points of a layer: its input patches as columns of matrices, in tiles of bounded memory.

A convolution is a matrix product with its unrolled input: for each group, K = in-channels per group x kernel
positions rows and one column for each of the P output positions of a sample.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

TILE_BYTES = {"cpu": 8 * 2**20, "cuda": 256 * 2**20, "mps": 64 * 2**20}
"""How much memory the points of one tile and what is computed from them may take, by kind of device."""


def nonnegative_parts(inputs: Tensor) -> list[Tensor]:
    """The input as non-negative points: itself, or its positive and its negative part if it has negative entries."""
    if inputs.numel() and inputs.min() < 0:
        return [inputs.clamp(min=0), (-inputs).clamp(min=0)]
    return [inputs]


def linear_points(layer: nn.Linear, inputs: Tensor) -> Iterator[Tensor]:
    """The points of a linear layer, all leading dimensions flattened, as tiles [1, 1, K, points]."""
    points = inputs.reshape(-1, layer.in_features)
    count = _per_tile(inputs.device, layer.in_features + 4 * layer.out_features)
    for start in range(0, len(points), count):
        yield points[start : start + count].t().contiguous()[None, None]


def conv_points(layer: nn.Module, inputs: Tensor) -> Iterator[list[Tensor]]:
    """The patches of a convolution: for each chunk of samples, its tiles [samples, groups, K, patches].

    A chunk has several tiles only where a single sample does not fit into one.
    """
    view = _patches(layer, inputs)
    spatial = (view.dim() - 3) // 2
    rows = view.shape[-spatial]
    groups, patch_size = layer.groups, view[0, 0, ..., *[0] * spatial].numel()
    filters = layer.out_channels // groups
    row_cost = groups * (patch_size + 4 * filters) * view[0, 0, 0, *[0] * (spatial + 1)].numel()
    sample_cost = rows * row_cost + 2 * layer.weight.numel()
    samples = min(len(view), _per_tile(inputs.device, sample_cost))
    rows_in_tile = rows if samples > 1 else min(rows, _per_tile(inputs.device, row_cost))
    for start in range(0, len(view), samples):
        chunk = view[start : start + samples].movedim(-spatial, 0)
        yield (_matrix(chunk[row : row + rows_in_tile].movedim(0, -spatial), groups, patch_size)
               for row in range(0, rows, rows_in_tile))


def num_patches(layer: nn.Module, inputs: Tensor) -> int:
    """P, the number of output positions of a sample."""
    view = _patches(layer, inputs[:1])
    spatial = (view.dim() - 3) // 2
    return view[0, 0, 0, *[0] * spatial].numel()


def _matrix(view: Tensor, groups: int, patch_size: int) -> Tensor:
    return view.reshape(len(view), groups, patch_size, -1).contiguous()


def _per_tile(device: torch.device, floats: int) -> int:
    """How many things of so many 4-byte floats fit into a tile; at least one."""
    return max(1, TILE_BYTES.get(device.type, TILE_BYTES["cpu"]) // (4 * floats))


def _patches(layer: nn.Module, inputs: Tensor) -> Tensor:
    """A view [samples, groups, channels per group, *kernel, *output] of the padded input; copies nothing more."""
    spatial = len(layer.kernel_size)
    if inputs.dim() == spatial + 1:
        inputs = inputs[None]
    if any(layer._reversed_padding_repeated_twice):
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        inputs = functional.pad(inputs, layer._reversed_padding_repeated_twice, mode=mode)
    inputs = inputs.contiguous()
    samples, channels, *sizes = inputs.shape
    out = [(size - dilation * (kernel - 1) - 1) // stride + 1 for size, kernel, stride, dilation
           in zip(sizes, layer.kernel_size, layer.stride, layer.dilation)]
    strides = inputs.stride()
    return inputs.as_strided(
        (samples, layer.groups, channels // layer.groups, *layer.kernel_size, *out),
        (strides[0], strides[1] * (channels // layer.groups), strides[1],
         *(step * dilation for step, dilation in zip(strides[2:], layer.dilation)),
         *(step * stride for step, stride in zip(strides[2:], layer.stride))))
