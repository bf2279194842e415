"""The points of a layer: its input patches as columns of matrices, in tiles of bounded memory.

A convolution is a matrix product with its unrolled input: for each group, K = in-channels per group x kernel
positions rows, and one column for each of the P output positions of a sample.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiment.errors import UserError

TILE_BYTES = {"cpu": 8 * 2**20, "cuda": 256 * 2**20, "mps": 64 * 2**20}
"""How much memory the points of one tile and what is computed from them may take, by kind of device.

A tile is never smaller than one row of output positions of one sample, nor than one point of a linear layer.
"""


def nonnegative_parts(inputs: Tensor) -> list[Tensor]:
    """The input as non-negative points: itself, or its positive and its negative part if it has negative entries."""
    if not inputs.numel():
        return []
    lowest, highest = inputs.aminmax()
    if not (lowest.isfinite() and highest.isfinite()):
        raise UserError("a layer's input holds numbers that are not finite; does the net work on the sample?")
    if lowest < 0:
        return [inputs.clamp(min=0), inputs.clamp(max=0).neg_()]
    return [inputs]


def tiles(layer: nn.Module, inputs: Tensor) -> Iterator[Iterable[Tensor]]:
    """The points of a layer's input: for each chunk of samples its tiles [samples, groups, K, points], contiguous.

    A chunk of a convolution has several tiles only where a single sample does not fit into one. For a linear layer
    every leading dimension counts as points of one sample, and each tile is a chunk of its own.
    """
    return _linear_tiles(layer, inputs) if isinstance(layer, nn.Linear) else _conv_tiles(layer, inputs)


def _linear_tiles(layer: nn.Linear, inputs: Tensor) -> Iterator[Iterable[Tensor]]:
    points = inputs.reshape(-1, layer.in_features)
    for tile in points.split(_per_tile(inputs.device, layer.in_features + 2 * layer.out_features)):
        yield [tile.t().contiguous()[None, None]]


def _conv_tiles(layer: nn.Module, inputs: Tensor) -> Iterator[Iterable[Tensor]]:
    view = patches(layer, inputs)
    spatial = len(layer.kernel_size)
    rows, columns = view.shape[-spatial], view.shape[1 - spatial:].numel() if spatial > 1 else 1
    patch_size = layer.weight[0].numel()
    row_cost = columns * (layer.groups * patch_size + 2 * layer.out_channels)
    samples = _per_tile(inputs.device, rows * row_cost + 2 * layer.weight.numel())
    rows_per_tile = rows if samples > 1 else _per_tile(inputs.device, row_cost)
    for chunk in view.split(samples):
        yield (tile.reshape(len(tile), layer.groups, patch_size, -1).contiguous()
               for tile in chunk.split(rows_per_tile, dim=-spatial))


def patches(layer: nn.Module, inputs: Tensor) -> Tensor:
    """A view [samples, groups, channels per group, *kernel, *output] of the padded input; copies nothing more."""
    spatial = len(layer.kernel_size)
    if inputs.dim() == spatial + 1:
        inputs = inputs[None]
    if any(layer._reversed_padding_repeated_twice):
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        inputs = functional.pad(inputs, layer._reversed_padding_repeated_twice, mode=mode)
    view = inputs.unflatten(1, (layer.groups, -1))
    for dim, (size, stride, dilation) in enumerate(zip(layer.kernel_size, layer.stride, layer.dilation), start=3):
        view = view.unfold(dim, dilation * (size - 1) + 1, stride)[..., ::dilation]
    return view.movedim(tuple(range(3, 3 + spatial)), tuple(range(-spatial, 0)))


def _per_tile(device: torch.device, floats: int) -> int:
    """How many things of so many 4-byte floats fit into a tile; at least one."""
    return max(1, TILE_BYTES.get(device.type, TILE_BYTES["cpu"]) // (4 * floats))
