"""The same share of each row of each layer, when scores are only compared within rows.

A row [inputs of a group, *kernel] of a layer holds the weights of one output.
"""

from dataclasses import dataclass

import numpy
import torch
from torch import Tensor

from experiment.allocation.layers import filled


def row_budgets(lengths: numpy.ndarray, available: numpy.ndarray, budget: int) -> numpy.ndarray:
    """Whole budgets [rows] that add up to `budget`, or to what is available.

    Every row keeps the same share of its length; where that is more than a row has, it keeps all,
    and the others share the rest. What rounding down leaves is handed out at even distances along
    the rows, so that each layer keeps its share too: the largest remainders might all be in one.
    """
    budget = int(min(budget, available.sum()))
    shares = filled(lengths.astype(float), available.astype(float), budget)
    whole = numpy.floor(shares + 1e-9)
    remainder = numpy.cumsum(numpy.maximum(shares - whole, 0))  # of all rows up to each
    rest = budget - whole.sum()
    if rest:
        handed_out = numpy.floor(remainder * (rest / remainder[-1]) + 0.5)
        whole += numpy.diff(handed_out, prepend=0)
    return whole.astype(numpy.int64)


@dataclass(frozen=True)
class RankedRows:
    """The weights of each row of each layer, ranked by score; those that may not stay come last."""

    ranks: list[Tensor]  # of each layer [rows, *]: each weight's rank in its row; ties by index
    lengths: numpy.ndarray  # [rows of all layers]: how many weights each has
    available: numpy.ndarray  # [rows of all layers]: how many of them are candidates

    @classmethod
    def of(cls, scores: list[Tensor], candidates: list[Tensor]) -> "RankedRows":
        """From the scores and candidates [rows, *] of each layer."""
        ranks = [
            _ranks(score.flatten(1), mask.flatten(1)).reshape(mask.shape)
            for score, mask in zip(scores, candidates)
        ]
        lengths = [numpy.full(len(mask), mask[0].numel()) for mask in candidates]
        available = [mask.flatten(1).sum(1).cpu().numpy() for mask in candidates]
        return cls(ranks, numpy.concatenate(lengths), numpy.concatenate(available))

    def largest(self, budget: int) -> list[Tensor]:
        """Masks of the candidates with the largest scores of each row, the same share of each."""
        counts = torch.from_numpy(row_budgets(self.lengths, self.available, budget))
        by_layer = counts.split([len(ranks) for ranks in self.ranks])
        return [
            ranks < count.to(ranks.device).reshape(-1, *[1] * (ranks.dim() - 1))
            for ranks, count in zip(self.ranks, by_layer)
        ]


def _ranks(scores: Tensor, candidates: Tensor) -> Tensor:
    """The rank of each weight in its row [rows, weights]: candidates first, by falling score."""
    order = scores.argsort(dim=1, descending=True, stable=True)
    if not candidates.all():
        others = (~candidates).gather(1, order).byte()
        order = order.gather(1, others.argsort(dim=1, stable=True))
    ranks = torch.arange(scores.shape[1], device=order.device).expand(order.shape)
    return torch.empty_like(order).scatter_(1, order, ranks)
