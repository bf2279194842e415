"""`max_product_` compiled for CPUs by numba; weights that are 0 cost nothing."""

import functools
import itertools
import os
from concurrent.futures import ThreadPoolExecutor

import numpy
import torch
from numba import njit
from numba.extending import intrinsic
from torch import Tensor

POINTS_PER_TILE = 1024
FILTERS_PER_TILE = 8  # a tile of both signs takes 64 KiB, so that it stays in the L2 cache


@intrinsic
def larger(typing_context, left, right):
    """The larger of two floats, without the rules for NaN that keep LLVM from vectorising max()."""

    def generate(context, builder, signature, arguments):
        is_left = builder.fcmp_ordered(">", *arguments, flags=["nnan", "nsz"])
        return builder.select(is_left, *arguments, flags=["nnan", "nsz"])

    return left(left, left), generate


@njit(nogil=True, fastmath={"nnan", "nsz"}, cache=True)
def _raise_rows(running, points, reciprocals, weight, first_row, last_row):
    """The work for rows first_row up to, not including, last_row of the points' groups x K rows."""
    patch_size = points.shape[2]
    for group in range(first_row // patch_size, (last_row - 1) // patch_size + 1):
        first = max(first_row - group * patch_size, 0)
        last = min(last_row - group * patch_size, patch_size)
        for sample in range(points.shape[0]):
            _raise_matrix(
                running[group],
                points[sample, group],
                reciprocals[sample, group],
                weight[group],
                first,
                last,
            )


@njit(nogil=True, fastmath={"nnan", "nsz"}, cache=True)
def _raise_matrix(running, points, reciprocals, weight, first_row, last_row):
    """The same for one sample and group: points [K, P], running and weight [filters, K]."""
    filters, patches = reciprocals.shape[1:]
    # 16 more columns, so that no two rows share cache sets
    tile = numpy.empty((2 * FILTERS_PER_TILE, POINTS_PER_TILE + 16), numpy.float32)
    # the rows of the tile that belong to weights other than 0
    live = numpy.empty(FILTERS_PER_TILE + 4, numpy.int64)
    for first in range(0, filters, FILTERS_PER_TILE):
        num_filters = min(FILTERS_PER_TILE, filters - first)
        for start in range(0, patches, POINTS_PER_TILE):
            stop = min(start + POINTS_PER_TILE, patches)
            for k in range(2 * num_filters):
                tile[k, : stop - start] = reciprocals[k % 2, first + k // 2, start:stop]
            for j in range(first_row, last_row):
                count = 0
                for i in range(num_filters):
                    live[count] = 2 * i + (weight[first + i, j] < 0)
                    count += weight[first + i, j] != 0
                live[count:] = live[max(count - 1, 0)]  # the last group of four repeats a row
                x = points[j, start:stop]
                for group in range(0, count, 4):
                    rows = live[group], live[group + 1], live[group + 2], live[group + 3]
                    a, b, c, d = tile[rows[0]], tile[rows[1]], tile[rows[2]], tile[rows[3]]
                    max_a = max_b = max_c = max_d = numpy.float32(0)
                    for p in range(x.size):  # the vectorised loop: 5 loads for 4 products
                        max_a, max_b = larger(max_a, x[p] * a[p]), larger(max_b, x[p] * b[p])
                        max_c, max_d = larger(max_c, x[p] * c[p]), larger(max_d, x[p] * d[p])
                    for row, value in zip(rows, (max_a, max_b, max_c, max_d)):
                        i = first + row // 2
                        running[i, j] = max(running[i, j], value)


@functools.cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """The threads of a process; they do not survive a fork."""
    return ThreadPoolExecutor(threads)


def max_product_(running: Tensor, points: Tensor, reciprocals: Tensor, weight: Tensor) -> None:
    """See `max_product.max_product_`. As many threads as torch uses share the points' rows."""
    arrays = [tensor.numpy() for tensor in (running, points, reciprocals, weight)]
    rows = points.shape[1] * points.shape[2]
    threads = torch.get_num_threads()
    starts = [rows * thread // threads for thread in range(threads + 1)]
    ranges = [(first, last) for first, last in itertools.pairwise(starts) if first < last]
    list(_pool(threads, os.getpid()).map(lambda bounds: _raise_rows(*arrays, *bounds), ranges))
