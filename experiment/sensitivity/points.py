"""The points of a layer: its input patches as columns of matrices, in tiles of bounded memory.

A convolution is a matrix product with its unrolled input: for each group, K = in-channels per group
x kernel positions rows, and one column for each of the P output positions of a sample.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiment.core.errors import UserError
from experiment.core.seeding import Stream
from experiment.nets.layers import PrunableLayer, watch
from experiment.nets.products import Convolution, Product
from experiment.nets.running import batch_length, split_batch

# How much memory the points of one tile, and what is computed from them, may take, by kind of
# device. A tile is never smaller than one row of output positions of one sample, nor than one point
# of a linear layer.
TILE_BYTES = {"cpu": 8 * 2**20, "cuda": 256 * 2**20, "mps": 64 * 2**20}


def nonnegative_parts(inputs: Tensor) -> list[Tensor]:
    """The inputs alone if none is negative, otherwise their positive and their negative part.

    Raises UserError for inputs that are not finite.
    """
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
    """The points of a product: for each chunk of samples its tiles [samples, groups, K, points].

    `inputs` are those of the product, or a part of them. Tiles are contiguous. A chunk of a
    convolution has several tiles only if a single sample does not fit into one. For a matrix every
    row of the inputs is the only point of a sample of its own, and every chunk is one tile.
    """
    if product.convolution is None:
        return _matrix_tiles(inputs, product.num_rows)
    return _convolution_tiles(inputs, product.num_rows, product.num_columns, product.convolution)


def _matrix_tiles(inputs: Tensor, num_rows: int) -> Iterator[Iterable[Tensor]]:
    floats_per_point = inputs.shape[1] + 2 * num_rows
    for tile in inputs.split(_num_per_tile(inputs.device, floats_per_point)):
        yield [tile.t().contiguous()[None, None]]


def _convolution_tiles(
    inputs: Tensor, num_rows: int, patch_size: int, convolution: Convolution
) -> Iterator[Iterable[Tensor]]:
    view = patch_view(convolution, inputs)
    spatial = len(convolution.kernel_size)
    output_rows = view.shape[-spatial]
    positions_per_row = view.shape[1 - spatial :].numel() if spatial > 1 else 1
    floats_per_row = positions_per_row * (convolution.groups * patch_size + 2 * num_rows)
    floats_per_sample = output_rows * floats_per_row + 2 * num_rows * patch_size
    samples_per_chunk = _num_per_tile(inputs.device, floats_per_sample)
    rows_per_tile = output_rows
    if samples_per_chunk == 1:
        rows_per_tile = _num_per_tile(inputs.device, floats_per_row)
    for chunk in view.split(samples_per_chunk):
        yield (
            tile.reshape(len(tile), convolution.groups, patch_size, -1).contiguous()
            for tile in chunk.split(rows_per_tile, dim=-spatial)
        )


def patch_view(convolution: Convolution, inputs: Tensor) -> Tensor:
    """The patches [samples, groups, channels per group, *kernel, *output]: a view of the inputs.

    Only padding makes a copy, of the padded inputs.
    """
    spatial = len(convolution.kernel_size)
    if any(convolution.padding):
        both_sides = [width for width in reversed(convolution.padding) for _ in range(2)]
        inputs = functional.pad(inputs, both_sides)
    view = inputs.unflatten(1, (convolution.groups, -1))
    options = zip(convolution.kernel_size, convolution.stride, convolution.dilation)
    for dim, (size, stride, dilation) in enumerate(options, start=3):
        view = view.unfold(dim, dilation * (size - 1) + 1, stride)[..., ::dilation]
    return view.movedim(tuple(range(3, 3 + spatial)), tuple(range(-spatial, 0)))


@dataclass(frozen=True)
class SampledPoints:
    """Some of the points that a layer sees."""

    points: Tensor  # [groups, K, points]
    sample: Tensor  # [points]: the sample each belongs to, counted over all batches; -1 if unknown


def sampled_points(
    net: nn.Module,
    layers: dict[str, PrunableLayer],
    batches: Iterable[Any],
    per_sample: int,
    stream: Stream,
    split: Callable[[Tensor], list[Tensor]] = lambda inputs: [inputs],
) -> dict[str, SampledPoints]:
    """Random points that each layer sees, up to `per_sample` of each sample.

    Each layer has its own child of `stream`. `split` turns the inputs of a product into the tensors
    that points are drawn from, for example `nonnegative_parts`. Layers that do not run, or use
    their weight only in blocks, as attention to another sequence does, are left out.
    """
    chosen: dict[str, list[SampledPoints]] = {name: [] for name in layers}
    generators = {name: stream.child(name).generator() for name in layers}
    num_before = 0  # samples in earlier batches

    def choose(name: str, product: Product, num_samples: int) -> None:
        shape = layers[name].shape
        if (product.num_rows, product.num_columns) != (shape[0], shape[1:].numel()):
            return
        for part in split(product.inputs.float()):
            found = _some_points(product, part, num_samples, per_sample, generators[name])
            sample = torch.where(found.sample < 0, -1, found.sample + num_before)
            chosen[name].append(SampledPoints(found.points, sample))

    for batch in batches:
        watch(net, layers, [batch], choose)
        num_before += batch_length(split_batch(batch)[0])
    return {name: _joined(pieces) for name, pieces in chosen.items() if pieces}


def _joined(pieces: list[SampledPoints]) -> SampledPoints:
    points = torch.cat([piece.points for piece in pieces], dim=2)
    return SampledPoints(points, torch.cat([piece.sample for piece in pieces]))


def _some_points(
    product: Product, inputs: Tensor, num_samples: int, per_sample: int, generator: torch.Generator
) -> SampledPoints:
    """Random points of each sample of a batch, at most `per_sample`."""
    view, spatial = _points_by_sample(product, inputs, num_samples)
    sizes = view.shape[1 : 1 + spatial]
    order = torch.rand(len(view), sizes.numel(), generator=generator).argsort(1)
    chosen = order[:, :per_sample].to(inputs.device)
    samples = torch.arange(len(view), device=inputs.device)[:, None]
    points = view[samples, *torch.unravel_index(chosen, sizes)]  # samples, points, groups, *K
    points = points.reshape(-1, product.groups, product.num_columns).permute(1, 2, 0)
    # Rows that cannot be divided among the samples count as samples of their own.
    number = samples if len(view) == num_samples else torch.full_like(samples, -1)
    return SampledPoints(points, number.expand_as(chosen).flatten().cpu())


def _points_by_sample(product: Product, inputs: Tensor, num_samples: int) -> tuple[Tensor, int]:
    """The points as a view [samples, *positions, groups, *K], and len(positions).

    The points of a matrix are the tokens of a sample; each row is a sample of its own if the rows
    cannot be divided evenly among the samples.
    """
    if product.convolution is None:
        samples = num_samples if len(inputs) % num_samples == 0 else len(inputs)
        return inputs.reshape(samples, -1, inputs.shape[1]), 1
    spatial = len(product.convolution.kernel_size)
    view = patch_view(product.convolution, inputs)
    return view.movedim(tuple(range(-spatial, 0)), tuple(range(1, 1 + spatial))), spatial


def _num_per_tile(device: torch.device, floats: int) -> int:
    """How many items, each of this many 4-byte floats, fit into a tile; at least one."""
    return max(1, TILE_BYTES.get(device.type, TILE_BYTES["cpu"]) // (4 * floats))
