"""The same share of each row of each layer, when scores are only compared within rows.

A row [inputs of a group, *kernel] of a layer holds the weights of one output.
"""

import numpy
import torch
from torch import Tensor

from experiment.allocation.layers import filled


def row_budgets(lengths: numpy.ndarray, available: numpy.ndarray, budget: int) -> numpy.ndarray:
    """Whole budgets [rows] that add up to `budget`, or to what is available.

    Every row keeps the same share of its length; where that is more than a row has, it keeps all,
    and the others share the rest. What rounding down leaves is handed out at even distances along
    the rows, so that each layer too keeps its share: the largest remainders might all be in one.
    """
    budget = int(min(budget, available.sum()))
    shares = filled(lengths.astype(float), available.astype(float), budget)
    whole = numpy.floor(shares + 1e-9)
    passed = numpy.cumsum(numpy.maximum(shares - whole, 0))
    rest = budget - whole.sum()
    if rest:
        whole += numpy.diff(numpy.floor(passed * (rest / passed[-1]) + 0.5), prepend=0)
    return whole.astype(numpy.int64)


def largest_of_rows(scores: list[Tensor], candidates: list[Tensor], budget: int) -> list[Tensor]:
    """Masks of the candidates with the largest scores of each row, the same share of every row.

    `scores` and `candidates` hold a tensor [rows, *] for each layer. Ties go by index.
    """
    lengths = [numpy.full(len(mask), mask[0].numel()) for mask in candidates]
    available = [mask.flatten(1).sum(1).cpu().numpy() for mask in candidates]
    counts = row_budgets(numpy.concatenate(lengths), numpy.concatenate(available), budget)
    by_layer = numpy.split(counts, numpy.cumsum([len(mask) for mask in candidates])[:-1])
    return [_largest(score.flatten(1), torch.from_numpy(count), mask.flatten(1)).reshape(mask.shape)
            for score, count, mask in zip(scores, by_layer, candidates)]


def _largest(scores: Tensor, counts: Tensor, candidates: Tensor) -> Tensor:
    """The `counts` [rows] candidates of largest score in each row [rows, weights]."""
    order = scores.argsort(dim=1, descending=True, stable=True)
    if not candidates.all():  # candidates come first, by score; then the others
        others = (~candidates).gather(1, order).byte()
        order = order.gather(1, others.argsort(dim=1, stable=True))
    first = torch.arange(scores.shape[1]) < counts[:, None]
    return torch.zeros_like(candidates).scatter_(1, order, first.to(order.device))
