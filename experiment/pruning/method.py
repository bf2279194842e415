"""What every pruning method is: something that chooses weights. The rest is done once, by the Pruner."""

import abc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy
from torch import Tensor

from experiment.allocation.layers import Allocation, layer_budgets
from experiment.allocation.rows import RankedRows
from experiment.core.errors import UserError
from experiment.core.seeding import Stream
from experiment.nets.masks import Masks, largest
from experiment.pruning.analysis import Statistics


@dataclass(frozen=True)
class Selection:
    """What a method decided about the flat vector of weights (`statistics.flat`)."""

    kept: Tensor  # bool
    factors: Callable[[], Tensor] | None = (
        None  # computes what each kept weight is multiplied with, if anything
    )
    # Of each unit of sensitivities (allocation.units), infinite where it was not sampled: what is certified about
    # reweighted weights. None with factors: nothing is.
    draws: numpy.ndarray | None = None
    # In which order the method keeps weights, if it has one: computes numbers, larger is kept longer.
    priority: Callable[[], Tensor] | None = None
    vectors: Masks = field(
        default_factory=dict
    )  # masks of biases and normalisations that go with removed filters


class Method(abc.ABC):
    """A pruning method. Its options are the keyword arguments of its `__init__`.

    Its docstring names what it takes from its paper and where it departs from it. Besides, all
    - are asked for a share of all parameters, biases and normalisations included; how many weights
      that leaves is searched for;
    - drop what no kept path connects to the output any more;
    - prune every weight that the net multiplies with inputs, the first and the last included;
    - leave what an earlier pruning removed, and the schedule and the retraining to the experiment;
    - look at S, in experiments a part of the validation images, where papers take training images.
    """

    structure: Literal["weights", "filters"] = (
        "weights"  # what it removes: single weights, or whole filters
    )

    @abc.abstractmethod
    def prepare(self, statistics: Statistics, stream: Stream) -> Callable[[int], Selection]:
        """Compute all that does not depend on the budget; return the function from budget to selection.

        The budget is a number of weights; only `statistics.candidates` may be kept. The function must give
        the same answer whenever it is asked the same: every random number comes from `stream`.
        """


class ScoreMethod(Method):
    """A method that keeps the weights with the largest scores.

    `allocation` says where they are compared: over the whole network (`global`); within each layer,
    which then keeps the same share as the others (`uniform`) or one that falls with its size
    (`erk`); or within each row of each layer, the weights of one output, all of which then keep the
    same share (`row`).
    """

    def __init__(self, *, allocation: Allocation = "global"):
        self.allocation = allocation

    @abc.abstractmethod
    def scores(self, statistics: Statistics, stream: Stream) -> dict[str, Tensor]:
        """For each layer of `statistics.layers` a score of each weight; larger means more important."""

    def prepare(self, statistics: Statistics, stream: Stream) -> Callable[[int], Selection]:
        scores = self.scores(statistics, stream)
        for name in statistics.layers:
            if name not in scores:
                raise UserError(f"the method gives no scores for layer {name}")
            score = scores[name]
            if score.isnan().any():
                raise UserError(
                    f"the scores of layer {name} are not numbers; does the net work on the sample?"
                )
        choose = chooser(scores, statistics, self.allocation)
        return lambda budget: Selection(
            choose(budget), priority=lambda: statistics.flat.join(scores)
        )


def chooser(
    scores: dict[str, Tensor], statistics: Statistics, allocation: Allocation
) -> Callable[[int], Tensor]:
    """From a budget to the mask, over the flat vector, of as many candidates of largest scores."""
    flat, candidates = statistics.flat, statistics.candidates
    by_layer = flat.split(candidates)
    if allocation == "global":
        joined = flat.join(scores)
        return lambda budget: largest(joined, budget, candidates)
    if allocation == "row":
        rows = RankedRows.of([scores[name] for name in by_layer], list(by_layer.values()))
        return lambda budget: flat.join(dict(zip(by_layer, rows.largest(budget))))
    available = [int(mask.sum()) for mask in by_layer.values()]

    def by_layers(budget: int) -> Tensor:
        budgets = layer_budgets(allocation, list(flat.shapes.values()), available, budget)
        return flat.join(
            {
                name: largest(scores[name].flatten(), count, mask.flatten())
                for (name, mask), count in zip(by_layer.items(), budgets)
            }
        )

    return by_layers
