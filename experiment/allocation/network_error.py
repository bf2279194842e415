"""Relative errors through a whole net: what each layer may have, and what they amount to.

This is the theorem of arXiv:1804.05345 and 1910.05422, proved here anew, since neither text could
be read in full; its budgets and the products of sign complexities are those of the papers.

Let r be the relative error of each input of a layer, let every unit, the positive or negative
weights of a neuron, have at most the relative error e when it is fed with the inputs of the
unpruned net, and let Delta bound the sign complexity of the layer's neurons
(`sensitivity/sign_complexity.py`). No pruned weight has another sign than it had, so the terms of a
unit all have one sign, and inputs within 1 +- r move its sum by a factor within 1 +- r, whatever
its weights. Together the sum is within (1 +- e)(1 +- r). A neuron is the difference of such sums
and an additive term without error. Its relative error is therefore at most

    R(e, r) = Delta ((1 + e)(1 + r) - 1).

For inputs of both signs the same holds of the four sums over positive and negative weights and
inputs, since r at most 1 leaves the signs of inputs alone. What lies between layers passes errors
up to 1 on as they are (`nets/feed_forward.py`). The input of the first layer has none. This is
exact: nothing is left out for being of second order. In particular, the draws of a layer need to be
good for the unpruned inputs alone, on which they do not depend, and a union bound over all units
suffices.

Budgets: with D layers and the products P_l = Delta_l ... Delta_D, every Delta taken as at least 1,
layer l may have e_l = error / (2 D P_l). (In the papers, error / (2 (L - 1) P_l): they seem to
count the input as a layer, so that L - 1 is D. The proof needs D.)

Then the error after layer l is at most (l / D) error / P_{l+1}, so at most `error` at the output:
by induction r <= 1 before layer l, hence R(e_l, r) <= Delta_l (2 e_l + r) <= Delta_l (error / (D
P_l) + (l - 1) error / (D P_l)) = l error / (D P_{l+1}). The factor 2 is what pays for the terms of
second order. The induction needs r <= 1 at hidden layers, which an error of at most 1 ensures. With
a larger one it may fail, and then nothing is certified: the error is infinite.
"""

import itertools
import math
from collections.abc import Sequence


def layer_budgets(error: float, complexities: Sequence[float]) -> list[float]:
    """The relative error e_l that the units of each layer may have.

    Args:
        error: relative error of each entry of the output.
        complexities: Delta of each layer, from the input to the output; if one is infinite, its
            layer and all before it may have no error.
    """
    later = itertools.accumulate(
        (max(1.0, complexity) for complexity in reversed(complexities)), lambda x, y: x * y
    )
    return [error / (2 * len(complexities) * product) for product in later][::-1]


def composed_errors(unit_errors: Sequence[float], complexities: Sequence[float]) -> list[float]:
    """The relative error of the outputs of each layer, given that of its units.

    Infinite after a layer where it is above 1, since then inputs of the next may change signs.
    """
    errors: list[float] = []
    for unit_error, complexity in zip(unit_errors, complexities):
        before = errors[-1] if errors else 0.0
        relative = (1 + unit_error) * (1 + before) - 1
        if before > 1:
            errors.append(math.inf)
        else:
            errors.append(relative * complexity if relative else 0.0)  # 0, if it is infinite, too
    return errors
