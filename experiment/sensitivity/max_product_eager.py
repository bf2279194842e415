"""`max_product_` with PyTorch alone, on any device, in tiles of bounded memory."""

import torch
from torch import Tensor

TILE_FLOATS = {
    "cpu": 2**18,
    "cuda": 2**24,
    "mps": 2**22,
}  # products built at a time; on a CPU they stay in the cache
MIN_POINTS = 32  # of a tile, however large the layer


def max_product_(running: Tensor, points: Tensor, reciprocals: Tensor, weight: Tensor) -> None:
    """See `max_product.max_product_`. Computes the products with both signs and keeps each weight's own."""
    floats = TILE_FLOATS.get(running.device.type, TILE_FLOATS["cpu"])
    groups, filters, patch_size = running.shape
    width = max(MIN_POINTS, floats // (groups * patch_size))
    height = max(1, floats // (groups * patch_size * min(width, points.shape[-1])))
    for sample_points, sample_reciprocals in zip(points, reciprocals):
        for columns, column_reciprocals in zip(
            sample_points.split(width, -1), sample_reciprocals.split(width, -1)
        ):
            for start in range(0, filters, height):
                rows = slice(start, start + height)
                positive, negative = (
                    _product(columns, column_reciprocals[:, sign, rows]) for sign in (0, 1)
                )
                found = torch.where(weight[:, rows] < 0, negative, positive)
                running[:, rows] = torch.maximum(running[:, rows], found)


def _product(points: Tensor, reciprocals: Tensor) -> Tensor:
    """max_p points[g,j,p] * reciprocals[g,i,p], for points [groups, K, P]: [groups, filters, K]."""
    return (points[:, None] * reciprocals[:, :, None]).amax(-1)
