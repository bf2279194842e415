"""`max_product_` with PyTorch alone, on any device, in tiles of bounded memory."""

import torch
from torch import Tensor

# How many products are built at a time; on a CPU they stay in the cache.
TILE_FLOATS = {"cpu": 2**18, "cuda": 2**24, "mps": 2**22}
MIN_POINTS = 32  # of a tile, however large the layer


def max_product_(running: Tensor, points: Tensor, reciprocals: Tensor, weight: Tensor) -> None:
    """See `max_product.max_product_`. Computes the products for both signs and picks one."""
    floats = TILE_FLOATS.get(running.device.type, TILE_FLOATS["cpu"])
    groups, filters, patch_size = running.shape
    width = max(MIN_POINTS, floats // (groups * patch_size))
    height = max(1, floats // (groups * patch_size * min(width, points.shape[-1])))
    for sample_points, sample_reciprocals in zip(points, reciprocals):
        tiles = zip(sample_points.split(width, -1), sample_reciprocals.split(width, -1))
        for tile_points, tile_reciprocals in tiles:
            for start in range(0, filters, height):
                rows = slice(start, start + height)
                positive = _product(tile_points, tile_reciprocals[:, 0, rows])
                negative = _product(tile_points, tile_reciprocals[:, 1, rows])
                largest = torch.where(weight[:, rows] < 0, negative, positive)
                running[:, rows] = torch.maximum(running[:, rows], largest)


def _product(points: Tensor, reciprocals: Tensor) -> Tensor:
    """max_p points[g,j,p] * reciprocals[g,i,p], for points [groups, K, P]: [groups, filters, K]."""
    return (points[:, None] * reciprocals[:, :, None]).amax(-1)
