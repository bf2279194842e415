"""From how many zeros on products with compressed rows are faster than dense ones."""

import functools
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy
import torch
from torch import Tensor
from torch.nn import functional

from experiment.deployment.latency import take_turns, torch_threads
from experiment.deployment.runtimes.pytorch_sparse import SparseRows

if TYPE_CHECKING:
    import pandas

ZEROS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)


def crossing(
    num_outputs: int,
    num_inputs: int,
    batch_size: int,
    *,
    pixels: tuple[int, int] | None = None,
    zeros: Sequence[float] = ZEROS,
    threads: int = 1,
    seconds: float = 0.5,
    clock: Callable[[], float] = time.perf_counter,
) -> "pandas.DataFrame":
    """The times of a layer, dense and by compressed rows, for some shares of zeros.

    Args:
        pixels: height and width of the images of a 1x1 convolution; None for a linear layer.

    Returns:
        One row per share of zeros: zeros, dense_ms and sparse_ms, which are medians, and speedup,
        the median of how many times as long the dense product took in the same round. `seconds` is
        the time for each of them.
    """
    import pandas

    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(batch_size, num_inputs, *(pixels or ()), generator=generator)
    rows = []
    with torch_threads(threads), torch.inference_mode():
        for share in zeros:
            weight = torch.randn(num_outputs, num_inputs, generator=generator)
            weight[torch.rand(weight.shape, generator=generator) < share] = 0
            dense, sparse = _times(weight, inputs, seconds, clock)
            rows.append(
                {
                    "zeros": share,
                    "dense_ms": 1000 * numpy.median(dense),
                    "sparse_ms": 1000 * numpy.median(sparse),
                    "speedup": numpy.median(dense / sparse),
                }
            )
    return pandas.DataFrame(rows)


def first_faster(table: "pandas.DataFrame") -> float | None:
    """The share of zeros from which on sparse products stay faster; None if they never are."""
    is_faster = table.sort_values("zeros")["speedup"].gt(1).tolist()
    shares = sorted(table["zeros"])
    start = len(shares)
    while start and is_faster[start - 1]:
        start -= 1
    return shares[start] if start < len(shares) else None


def _products(weight: Tensor, inputs: Tensor) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """The dense and the sparse product with vectors, or with each pixel of images."""
    if inputs.dim() == 2:
        rows = SparseRows(weight, None)
        return lambda: functional.linear(inputs, weight), lambda: rows(inputs)
    rows = SparseRows(weight, None, stride=(1, 1))
    kernel = weight[:, :, None, None]
    return lambda: functional.conv2d(inputs, kernel), lambda: rows(inputs)


def _times(
    weight: Tensor, inputs: Tensor, seconds: float, clock: Callable[[], float]
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Seconds of the dense and the sparse product, which take turns."""
    products = _products(weight, inputs)

    def measure(product: Callable[[], Tensor]) -> float:
        start = clock()
        product()
        return clock() - start

    for product in products:
        product()
    measures = [functools.partial(measure, product) for product in products]
    dense, sparse = take_turns(measures, "crossing", seconds, clock).T
    return dense, sparse
