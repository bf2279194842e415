"""Keeping the weights with the largest scores, compared over the net, its layers or its rows."""

import torch
from torch import Tensor

from experiment.allocation.layers import Allocation, layer_budgets
from experiment.allocation.rows import RankedRows
from experiment.nets.masks import largest
from experiment.pruning.analysis import Analysis
from experiment.pruning.decision import Choice, Prepared


def largest_scores(
    scores: dict[str, Tensor], analysis: Analysis, allocation: Allocation
) -> "LargestScores":
    """The method that keeps the weights with the largest scores (by layer)."""
    if allocation == "global":
        return LargestOverall(scores, analysis)
    if allocation == "row":
        return LargestOfRows(scores, analysis)
    return LargestOfLayers(scores, analysis, allocation)


class LargestScores(Prepared):
    """What all of them share: scores of the layers' weights."""

    def __init__(self, scores: dict[str, Tensor], analysis: Analysis):
        self.scores = scores
        self.flat = analysis.flat
        self.candidates = analysis.candidates

    def priority(self) -> Tensor:
        return self.flat.join(self.scores)


class LargestOverall(LargestScores):
    """Scores are compared over the whole net."""

    nested = True

    def __init__(self, scores: dict[str, Tensor], analysis: Analysis):
        super().__init__(scores, analysis)
        self.joined = self.flat.join(self.scores)

    def choose(self, budget: int) -> Choice:
        return Choice(kept=largest(self.joined, budget, self.candidates))

    def openings(self, budget: int) -> list[int]:
        """The ranks, counted from 1, of the best candidates of the layers that are empty."""
        candidates = self.flat.split(self.candidates)
        kept = self.flat.split(self.choose(budget).kept)
        scores = self.flat.split(self.joined)
        ranks = []
        start = 0  # of the layer in the flat vector
        for name, mask in candidates.items():
            if mask.any() and not kept[name].any():
                best = scores[name][mask].max()
                first = (mask & (scores[name] == best)).flatten().nonzero()[0]
                ranks.append(self._rank(best, start + int(first)))
            start += mask.numel()
        return sorted(ranks)

    def _rank(self, score: Tensor, position: int) -> int:
        """The rank, counted from 1, of the candidate with this score and position."""
        larger = self.candidates & (self.joined > score)
        ties = self.candidates[:position] & (self.joined[:position] == score)
        return int(larger.count_nonzero()) + int(ties.count_nonzero()) + 1


class LargestOfRows(LargestScores):
    """Scores are compared within each row of each layer; all rows keep the same share."""

    def __init__(self, scores: dict[str, Tensor], analysis: Analysis):
        super().__init__(scores, analysis)
        masks = self.flat.split(self.candidates)
        self.rows = RankedRows.of([scores[name] for name in masks], list(masks.values()))

    def choose(self, budget: int) -> Choice:
        kept = self.rows.largest(budget)
        return Choice(kept=torch.cat([mask.flatten() for mask in kept]))


class LargestOfLayers(LargestScores):
    """Scores are compared within each layer; the allocation says how much each layer keeps."""

    def __init__(self, scores: dict[str, Tensor], analysis: Analysis, allocation: Allocation):
        super().__init__(scores, analysis)
        self.allocation = allocation
        self.masks = self.flat.split(self.candidates)
        self.available = [int(mask.sum()) for mask in self.masks.values()]

    def choose(self, budget: int) -> Choice:
        shapes = list(self.flat.shapes.values())
        budgets = layer_budgets(self.allocation, shapes, self.available, budget)
        kept = [
            largest(self.scores[name].flatten(), of_layer, mask.flatten())
            for (name, mask), of_layer in zip(self.masks.items(), budgets)
        ]
        return Choice(kept=torch.cat(kept))
