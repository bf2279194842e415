"""The points of a layer: its input patches as columns of matrices, in tiles of bounded memory.

A convolution is a matrix product with its unrolled input: for each group, K = in-channels per group x kernel
positions rows, and one column for each of the P output positions of a sample.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from experiment.core.errors import UserError
from experiment.nets.products import Convolution, Product

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
        raise UserError(
            "a layer's input holds numbers that are not finite; does the net work on the sample?"
        )
    if lowest < 0:
        return [inputs.clamp(min=0), inputs.clamp(max=0).neg_()]
    return [inputs]


def tiles(product: Product, inputs: Tensor) -> Iterator[Iterable[Tensor]]:
    """The points of a product, its inputs or a part of them: for each chunk of samples its tiles
    [samples, groups, K, points], contiguous.

    A chunk of a convolution has several tiles only where a single sample does not fit into one. For
    a matrix every row of the inputs is a point of a sample of its own, and each tile is a chunk.
    """
    return (
        _matrix_tiles(product, inputs)
        if product.convolution is None
        else _convolution_tiles(product, inputs)
    )


def _matrix_tiles(product: Product, inputs: Tensor) -> Iterator[Iterable[Tensor]]:
    cost = inputs.shape[1] + 2 * (product.rows.stop - product.rows.start)
    for tile in inputs.split(_per_tile(inputs.device, cost)):
        yield [tile.t().contiguous()[None, None]]


def _convolution_tiles(product: Product, inputs: Tensor) -> Iterator[Iterable[Tensor]]:
    how, filters = product.convolution, product.rows.stop - product.rows.start
    view = patches(how, inputs)
    spatial = len(how.kernel_size)
    rows = view.shape[-spatial]
    columns = view.shape[1 - spatial :].numel() if spatial > 1 else 1
    patch_size = product.columns.stop
    row_cost = columns * (how.groups * patch_size + 2 * filters)
    samples = _per_tile(inputs.device, rows * row_cost + 2 * filters * patch_size)
    rows_per_tile = rows if samples > 1 else _per_tile(inputs.device, row_cost)
    for chunk in view.split(samples):
        yield (
            tile.reshape(len(tile), how.groups, patch_size, -1).contiguous()
            for tile in chunk.split(rows_per_tile, dim=-spatial)
        )


def patches(how: Convolution, inputs: Tensor) -> Tensor:
    """A view [samples, groups, channels per group, *kernel, *output] of the padded input; copies
    nothing more."""
    spatial = len(how.kernel_size)
    if any(how.padding):
        both_sides = [width for width in reversed(how.padding) for _ in range(2)]
        inputs = functional.pad(inputs, both_sides)
    view = inputs.unflatten(1, (how.groups, -1))
    sizes = zip(how.kernel_size, how.stride, how.dilation)
    for dim, (size, stride, dilation) in enumerate(sizes, start=3):
        view = view.unfold(dim, dilation * (size - 1) + 1, stride)[..., ::dilation]
    return view.movedim(tuple(range(3, 3 + spatial)), tuple(range(-spatial, 0)))


def some_points(
    product: Product, inputs: Tensor, num_samples: int, per_sample: int, generator: torch.Generator
) -> Tensor:
    """Random points of each sample, at most `per_sample`: [groups, K, points].

    The points of a matrix are the tokens of a sample, or a single one.
    """
    if product.convolution is None:
        samples = num_samples if len(inputs) % num_samples == 0 else len(inputs)
        view, positions = inputs.reshape(samples, -1, inputs.shape[1]), 1
    else:
        positions = len(product.convolution.kernel_size)
        view = patches(product.convolution, inputs)  # samples, groups, channels, *kernel, *output
        view = view.movedim(tuple(range(-positions, 0)), tuple(range(1, 1 + positions)))
    sizes = view.shape[1 : 1 + positions]
    order = torch.rand(len(view), sizes.numel(), generator=generator).argsort(1)[:, :per_sample]
    order = order.to(inputs.device)
    every = torch.arange(len(view), device=inputs.device)[:, None]
    cut = view[every, *torch.unravel_index(order, sizes)]  # samples, points, groups, *K
    groups = 1 if product.convolution is None else product.convolution.groups
    return cut.reshape(-1, groups, product.columns.stop - product.columns.start).permute(1, 2, 0)


def _per_tile(device: torch.device, floats: int) -> int:
    """How many things of so many 4-byte floats fit into a tile; at least one."""
    return max(1, TILE_BYTES.get(device.type, TILE_BYTES["cpu"]) // (4 * floats))
