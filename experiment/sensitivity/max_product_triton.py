"""`max_product_` compiled for CUDA devices by Triton."""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = tl.constexpr(16)  # filters, rows and points of a program at a time: 4096 products


@triton.jit
def _max_product(running, points, reciprocals, weight, filters, patch_size, patches, groups):
    """One sample and group, BLOCK filters and BLOCK of the points' K rows, over all P points."""
    row_blocks = tl.cdiv(patch_size, BLOCK)
    blocks = row_blocks * tl.cdiv(filters, BLOCK)
    block = tl.program_id(0) % blocks
    matrix = tl.program_id(0) // blocks
    i = block // row_blocks * BLOCK + tl.arange(0, BLOCK)
    j = block % row_blocks * BLOCK + tl.arange(0, BLOCK)
    inside = (i < filters)[:, None] & (j < patch_size)[None, :]
    at = (matrix % groups * filters + i[:, None]) * patch_size + j[None, :]
    negative = (tl.load(weight + at, inside, 0.0) < 0)[:, :, None]
    best = tl.zeros((BLOCK, BLOCK, BLOCK), tl.float32)  # filters, rows, points
    for start in range(0, patches, BLOCK):
        p = start + tl.arange(0, BLOCK)
        valid_r = (i < filters)[:, None] & (p < patches)[None, :]
        valid_x = (j < patch_size)[:, None] & (p < patches)[None, :]
        at_r = (2 * matrix * filters + i[:, None]) * patches + p[None, :]
        positive_r = tl.load(reciprocals + at_r, valid_r, 0.0)
        negative_r = tl.load(reciprocals + at_r + filters * patches, valid_r, 0.0)
        at_x = (matrix * patch_size + j[:, None]) * patches + p[None, :]
        x = tl.load(points + at_x, valid_x, 0.0)
        r = tl.where(negative, negative_r[:, None, :], positive_r[:, None, :])
        best = tl.maximum(best, x[None, :, :] * r)
    tl.atomic_max(running + at, tl.max(best, 2), inside)


def max_product_(running: Tensor, points: Tensor, reciprocals: Tensor, weight: Tensor) -> None:
    """See `max_product.max_product_`. Samples run in parallel, joined by an atomic maximum."""
    samples, groups, patch_size, patches = points.shape
    filters = running.shape[1]
    blocks = triton.cdiv(filters, BLOCK.value) * triton.cdiv(patch_size, BLOCK.value)
    programs = samples * groups * blocks
    with torch.cuda.device_of(running):
        _max_product[(programs,)](
            running, points, reciprocals, weight, filters, patch_size, patches, groups
        )
