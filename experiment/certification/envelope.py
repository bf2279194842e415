"""The worst that can happen to a unit of a finished net at any point within an envelope.

Statement: at every point whose contributions are all within c_j, the relative error of a unit is at
most `worst_case`, surely: there is no failure probability, because what was drawn is known.

Assumption: the envelope. With c_j = C s_j it is the paper's, with constants from
`calibrated_constant.py` it holds for a share of the images that is chosen beforehand.

Proof: with f_j the factor by which pruning has multiplied weight j (0: removed, 1: kept), the error
is |sum_j g_j (f_j - 1)|, where 0 <= g_j <= c_j and sum_j g_j = 1. Its maximum over all such g is a
fractional knapsack problem, solved exactly by filling up weights in the order of f_j - 1, falling
for errors above and rising for errors below (Dantzig 1957, Oper. Res. 5, 266-288). Of a unit whose
weights keep their values that is min(1, sum of the c_j that are gone). It holds however the net was
made, so for all methods, and for choices that were made by looking at its value.
"""

import torch
from torch import Tensor


def worst_case(factors: Tensor, capacities: Tensor) -> Tensor:
    """The largest relative error of each unit within an envelope [units].

    0 where the capacities do not add up to 1: no point is within the envelope there.

    Args:
        factors: f of each weight, any number where it does not belong to the unit [units, K].
        capacities: c of each weight, 0 where it does not belong to the unit [units, K].
    """
    change = factors - 1
    above = _largest_mean(change, capacities)
    below = _largest_mean(-change, capacities)
    possible = capacities.sum(1) >= 1
    return torch.where(possible, torch.maximum(above, below).clamp(min=0), 0)


def _largest_mean(values: Tensor, capacities: Tensor) -> Tensor:
    """The largest sum_j g_j v_j with 0 <= g_j <= c_j and sum_j g_j = 1, of each row [rows]."""
    ordered, order = values.sort(dim=1, descending=True)
    room = capacities.gather(1, order)
    before = room.cumsum(1) - room
    taken = torch.minimum(room, (1 - before).clamp(min=0))
    return (taken * ordered).sum(1)


def factors_of(weight: Tensor, pruned: Tensor) -> Tensor:
    """What pruning has multiplied each weight with; 1 where there was none."""
    return torch.where(weight != 0, pruned / torch.where(weight != 0, weight, 1), 1)
