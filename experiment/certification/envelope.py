"""The worst that can happen to a unit of a finished net at any point within an envelope.

Statement: at every point whose contributions are within c_j, up to an excess of at most x together,
the relative error of a unit is at most `worst_case`, surely: nothing is random about it, because
what was drawn is known.

Assumption: the envelope. With c_j = C s_j and x = 0 it is the paper's; `calibrated_excess.py` finds
an x with which it holds for a share of the images that is chosen beforehand.

Proof: with f_j the factor by which pruning has multiplied weight j (0: removed, 1: kept), the error
is |sum_j g_j (f_j - 1)|, where g_j >= 0, sum_j g_j = 1 and sum_j max(0, g_j - c_j) <= x. Its
maximum over all such g is a fractional knapsack problem, solved exactly by filling up weights in
the order of f_j - 1, falling for errors above and rising for errors below (Dantzig 1957, Oper. Res.
5, 266-288); the excess is best spent on the first weight. For a unit whose weights keep their
values, and of which some are gone, that is min(1, x + sum of the c_j that are gone). It holds
however the net was made: for all methods, and for choices that were made by looking at the bound.
"""

import torch
from torch import Tensor


def worst_case(
    factors: Tensor, own: Tensor, capacities: Tensor, excess: Tensor | None = None
) -> Tensor:
    """The largest relative error of each unit within an envelope [units].

    0 where the capacities and the excess do not add up to 1: no point lies within the envelope.

    Args:
        factors: f of each weight [units, K].
        own: whether a weight belongs to the unit [units, K].
        capacities: c of each weight [units, K].
        excess: x of each unit [units]; none by default.
    """
    if excess is None:
        excess = torch.zeros(len(factors), dtype=factors.dtype)
    excess = excess.clamp(max=1)  # more than all is not possible; infinite if nothing is known
    room = torch.where(own, capacities, 0)
    change = factors - 1
    above = _largest_mean(change, own, room, excess)
    below = _largest_mean(-change, own, room, excess)
    possible = (room.sum(1) + excess >= 1) & own.any(1)
    return torch.where(possible, torch.maximum(above, below).clamp(min=0), 0)


def _largest_mean(values: Tensor, own: Tensor, room: Tensor, excess: Tensor) -> Tensor:
    """The largest sum_j g_j v_j with 0 <= g_j <= room_j and sum_j g_j = 1, of each row [rows].

    The excess is added to the room of the largest value.
    """
    values = torch.where(own, values, -torch.inf)
    ordered, order = values.sort(dim=1, descending=True)
    room = room.gather(1, order)
    room[:, 0] += torch.where(own.any(1), excess, 0)
    before = room.cumsum(1) - room
    taken = torch.minimum(room, (1 - before).clamp(min=0))
    return torch.where(taken > 0, taken * ordered, 0).sum(1)


def factors_of(weight: Tensor, pruned: Tensor) -> Tensor:
    """What pruning has multiplied each weight with; 1 where there was none."""
    return torch.where(weight != 0, pruned / torch.where(weight != 0, weight, 1), 1)
