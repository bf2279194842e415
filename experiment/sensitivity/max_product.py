"""The matrix product in the (max, times) semiring, restricted to each weight's own sign."""

import torch
from torch import Tensor

TILE_FLOATS = 2**21  # of the product points x filters that the eager version builds at a time


def max_product_(running: Tensor, points: Tensor, reciprocals: Tensor, weight: Tensor) -> None:
    """running[i,j] = max(running[i,j], max_p points[j,p] * reciprocals[s,i,p]), s the sign of weight[i,j]; in place.

    Shapes: running and weight [filters, K], points [K, P], reciprocals [2, filters, P], all float32 and >= 0
    but weight.
    """
    filters, size = running.shape
    columns = max(1, TILE_FLOATS // (2 * size))
    for i in range(filters):
        for start in range(0, points.shape[1], columns):
            cut = slice(start, start + columns)
            both = (reciprocals[:, i, None, cut] * points[None, :, cut]).amax(2)
            row = torch.where(weight[i] < 0, both[1], both[0])
            torch.maximum(running[i], row, out=running[i])
