"""How many weights each layer keeps, when scores are only compared within layers."""

from typing import Literal

import numpy
import torch

Allocation = Literal["global", "uniform", "erk", "row"]


def layer_budgets(
    allocation: Allocation, shapes: list[torch.Size], available: list[int], budget: int
) -> list[int]:
    """Integer budgets of the layers that add up to `budget`, none above what the layer has.

    `uniform`: the same density everywhere. `erk` (Erdos-Renyi kernel, Mocanu et al. 2018, Evci et
    al. 2020): a density proportional to the sum of the weight's dimensions over their product, so
    that large layers are sparser. Where that asks for more than a layer has, the layer stays dense
    and the others share the rest. If `budget` is more than what is available, all is kept.

    Args:
        allocation: `uniform` or `erk`.
        shapes: of the weight of each layer.
        available: how many weights each layer may keep.
        budget: how many weights all of them keep.
    """
    wanted = numpy.array(
        [float(shape.numel()) if allocation == "uniform" else float(sum(shape)) for shape in shapes]
    )
    limits = numpy.array(available, dtype=float)
    budget = int(min(budget, limits.sum()))
    return _rounded(filled(wanted, limits, budget), limits, budget)


def filled(wanted: numpy.ndarray, limits: numpy.ndarray, budget: int) -> numpy.ndarray:
    """min(limit, level * wanted), with the level at which the sum is the budget."""
    full = numpy.zeros(len(limits), dtype=bool)
    while not full.all():
        level = (budget - limits[full].sum()) / wanted[~full].sum()
        over = ~full & (level * wanted > limits)
        if not over.any():
            break
        full |= over
    return numpy.where(full, limits, level * wanted)


def _rounded(shares: numpy.ndarray, limits: numpy.ndarray, budget: int) -> list[int]:
    """The shares as whole numbers with the same sum: the largest remainders are rounded up."""
    whole = numpy.floor(shares + 1e-9)
    remainder = numpy.where(whole < limits, shares - whole, -1)
    whole[numpy.argsort(-remainder, kind="stable")[: budget - int(whole.sum())]] += 1
    return [int(count) for count in whole]
